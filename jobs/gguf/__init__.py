"""GGUF: an adapter, or the model with it in its weights, as llama.cpp loads them."""
