"""The Gradio app. What it imports reads at once where it may write, so that this comes first."""

from sia_gen.service.places import settle

settle()
