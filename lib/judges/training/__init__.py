"""How the two miniature judges are made from nothing: data, vision tower, language model, evaluation, card."""
