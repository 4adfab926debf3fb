"""A web page that completes regions: the user marks a few patches of an object, and the model predicts the rest."""
