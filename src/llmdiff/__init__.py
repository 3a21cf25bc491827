"""llmdiff: any decoder-only LLM in charge of an existing diffusers text-to-image model."""

__version__ = "0.1.0"
