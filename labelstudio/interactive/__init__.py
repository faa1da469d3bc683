"""The interactive backend's side of Label Studio: what its messages mean and how to answer them.

No server and no model here: :mod:`workers.serve` receives the messages and has the model.
``docs/label-studio-interactive.md`` holds the measurements that this follows.
"""
