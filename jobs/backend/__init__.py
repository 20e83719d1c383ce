"""What arithmetic runs on: MLX, its device, BLAS, streams and kernels."""
