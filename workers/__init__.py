"""What runs on GPUs: replicas, the jobs that train them, and the library ``workers.read``."""
