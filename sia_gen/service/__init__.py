"""The doors: what the command line and the Gradio app show, and the app itself."""
