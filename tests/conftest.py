"""Settings of every test."""

import torch

torch.set_num_threads(1)  # the tests' tensors are small: a second thread gains little and spins where cores are shared
