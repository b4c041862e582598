"""Nasdaq: ITCH 5.0 over MoldUDP64, OUCH 5.0 over SoupBinTCP."""
