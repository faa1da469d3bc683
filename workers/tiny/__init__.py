"""The bundled tiny READ: how it is trained from scratch, and how it is judged."""
