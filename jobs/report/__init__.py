"""What a run shows to a person: plots, and a page that holds them with everything beside."""
