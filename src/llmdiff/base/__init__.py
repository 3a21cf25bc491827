"""The base model: the stock text-to-image model of diffusers that an adapter is made for, loaded and kept frozen."""
