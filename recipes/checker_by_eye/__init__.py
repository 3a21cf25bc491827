"""How the pictures were drawn on which the scene checker is compared with an eye: see README.md."""
