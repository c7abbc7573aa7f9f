"""The entry of a Hugging Face Space: builds the interface and launches it."""

from contextlib import suppress

from sia_gen.service.app.interface import launch

if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        launch()
