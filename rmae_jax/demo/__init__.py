"""A page on which one marks a few patches of a thing and sees the model's region branch complete its region."""
