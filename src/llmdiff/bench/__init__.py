"""What things cost: `llmdiff bench`. Every figure of the documentation is one of these commands."""
