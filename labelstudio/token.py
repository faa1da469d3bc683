"""The API token: from the environment only, and tried before long work depends on it."""

import os

from pydantic import SecretStr

from labelstudio.client import LabelStudioClient
from labelstudio.errors import TOKEN_VARIABLE
from labelstudio.settings import LabelStudioSettings


def checked_token(settings: LabelStudioSettings) -> SecretStr:
    """Return the token in ``LABEL_STUDIO_API_KEY``, once the server has taken it.

    Raises:
        LabelStudioError: it is missing, or the server is down or refuses it.
    """
    token = SecretStr(os.environ.get(TOKEN_VARIABLE, ""))
    LabelStudioClient(settings.url, token).check()
    return token
