"""Published sets and their measures: files to samples, predictions to figures. No models here."""
