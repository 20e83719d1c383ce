"""Curves where a team looks: what a job says, forwarded to TensorBoard, trackio, wandb, MLflow."""
