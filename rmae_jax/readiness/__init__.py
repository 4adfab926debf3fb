"""What a recipe needs on chips that are not here: the real step, compiled for them. See __main__.py."""
