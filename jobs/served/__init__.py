"""Other programs that serve a model, asked over HTTP: Ollama, and llama.cpp's server."""
