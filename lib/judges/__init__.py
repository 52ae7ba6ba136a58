"""The judge: what it is shown and asked, the models that answer, both orders, the verdict."""
