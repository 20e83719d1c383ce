"""Ollama: a conversation as it has it written, and the Modelfile that says so."""
