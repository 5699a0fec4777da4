"""The broker to run where there is none: mosquitto if it is installed, else an embedded one.

Flockwise asks of a broker only MQTT 3.1.1: QoS 0 and 1, retained messages, wills, clean sessions.
Nothing that a broker keeps has to survive it.
"""
