"""Other people's files and forms, written as JSON Lines of ours."""
