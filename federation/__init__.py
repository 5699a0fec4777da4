"""The language that both ends speak: topics, messages, codecs, transfer, sessions."""
