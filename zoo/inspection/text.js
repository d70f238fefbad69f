// Text, token by token: why each was chosen.
