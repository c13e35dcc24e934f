"""Fine-tuned tasks (section 6.2): what a model is told of every image beside its pixels, and how sets are read for it.

A task is one small class (`m2m.tasks.task.Task`), which `m2m.tasks.known.find_task` finds by name. recipes/new_task.md
writes another one.
"""
