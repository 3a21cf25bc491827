"""How the data of the world of things is made."""
