"""What a proxy is worth: prompts that only imply what they ask for, and endpoints to try it with, offline."""
