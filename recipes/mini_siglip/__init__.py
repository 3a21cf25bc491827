"""How the embedded SigLIP is made: data, model, training, retrieval."""
