"""What runs on GPUs: the replicas, the jobs that train them, and the model library ``workers.read``."""
