"""What a service may not do, as directives of systemd: it computes, talks to a broker, and writes
to its own state directory.

Figures of `systemd-analyze security` are held by a test; docs/decisions tells what is left open.
"""

from __future__ import annotations

EVERYWHERE = """\
DynamicUser=yes
UMask=0077
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
ProtectSystem=strict
ReadOnlyPaths=/run
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
PrivateUsers=yes
PrivateIPC=yes
PrivateMounts=yes
ProtectHostname=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
LockPersonality=yes
KeyringMode=private
LimitCORE=0
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
"""

# oneDNN writes machine code for convolutions while it runs: "could not create a primitive". And
# torch and psutil read /proc/cpuinfo, meminfo and the like.
WHERE_TORCH_IS = """\
ProcSubset=all
"""

WHERE_NO_TORCH_IS = """\
MemoryDenyWriteExecute=yes
ProcSubset=pid
"""
