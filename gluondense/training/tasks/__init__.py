"""What a run learns: targets, loss, metrics and predictions."""
