"""What a chat template makes of a conversation, and which of its tokens are answers."""
