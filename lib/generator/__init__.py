"""How the miniature generator is made from nothing: data, conditioner, structure, structured latents, evaluation."""
