"""How the data of the world of things is made, and the recipe by which its embedded base is trained."""
