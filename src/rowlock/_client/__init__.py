"""What `TaskQueue` is made of beside the store: grouped creates, callbacks, its event loop."""
