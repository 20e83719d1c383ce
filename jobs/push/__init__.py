"""A push to the Hugging Face hub: which files of an export go there, checked, and how they go."""
