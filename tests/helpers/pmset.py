"""What ``pmset`` has printed on Macs, as their owners have published it; farense ran on none.

The words of warning levels, which nobody seems to have published as printed, are those of Apple's
published source of ``pmset``.
"""

from __future__ import annotations

from textwrap import dedent

# `pmset -g batt`. A tab stands before the charge, on most systems.
CHARGED = (
    "Now drawing from 'AC Power'\n"
    " -InternalBattery-0 (id=22806627)\t100%; charged; 0:00 remaining present: true\n"
)
CHARGED_BY_BLANKS = (
    "Now drawing from 'AC Power'\n"
    " -InternalBattery-0 (id=24576099) 100%; charged; 0:00 remaining present: true\n"
)
CHARGING = (
    "Now drawing from 'AC Power'\n"
    " -InternalBattery-0 (id=22675555)\t14%; charging; 5:55 remaining present: true\n"
)
FINISHING = (
    "Now drawing from 'AC Power'\n"
    " -InternalBattery-0 (id=35192931)\t99%; finishing charge; 0:00 remaining present: true\n"
)
HELD_AT_80 = (
    "Now drawing from 'AC Power'\n"
    " -InternalBattery-0 (id=23265379)\t80%; AC attached; not charging present: true\n"
)
DISCHARGING = (
    "Now drawing from 'Battery Power'\n"
    " -InternalBattery-0 (id=7929955)\t88%; discharging; 6:25 remaining present: true\n"
)
JUST_UNPLUGGED = (
    "Now drawing from 'Battery Power'\n"
    " -InternalBattery-0 (id=5308515)\t43%; discharging; (no estimate) present: true\n"
)
NO_BATTERY = "Now drawing from 'AC Power'\n"
ON_UPS = (
    "Now drawing from 'UPS Power'\n -Back-UPS ES 700 (id=1234)\t87%; discharging; (no estimate)\n"
)
LAPTOP_BESIDE_UPS = (
    "Now drawing from 'Battery Power'\n"
    " -CP1500 (id=123)\t40%; discharging; (no estimate)\n"
    " -InternalBattery-0 (id=4653155)\t20%; discharging; 1:02 remaining present: true\n"
)

# `pmset -g therm`. Apple silicon, cool:
COOL = dedent("""\
    Note: No thermal warning level has been recorded
    Note: No performance warning level has been recorded
    Note: No CPU power status has been recorded
    """)
# Intel; what stands before "CPU Power notify" goes to another stream than that.
COOL_INTEL = dedent("""\
    Note: No thermal warning level has been recorded
    Note: No performance warning level has been recorded
    2026-06-23 23:28:08 +0800 CPU Power notify
    \tCPU_Scheduler_Limit \t= 100
    \tCPU_Available_CPUs \t= 12
    \tCPU_Speed_Limit \t= 100
    """)
# A MacBook Pro of 2011 without a battery, under High Sierra.
SLOWED_INTEL = dedent("""\
    Note: No thermal warning level has been recorded
    Note: No performance warning level has been recorded
    2020-11-24 13:10:40 +0100 CPU Power notify
        CPU_Scheduler_Limit     = 100
        CPU_Available_CPUs  = 8
        CPU_Speed_Limit     = 35
    """)
SLOWED_TWICE = (
    "Note: No thermal warning level has been recorded\nCPU Power notify\n"
    "\tCPU_Scheduler_Limit \t= 40\n\tCPU_Available_CPUs \t= 8\n\tCPU_Speed_Limit \t= 23\n"
)
WARNED = dedent("""\
    2026-08-20 13:11:08 +0700 Thermal Warning Level = 1
    2026-08-20 13:11:08 +0700 Performance Warning Level = 2
    Note: No CPU power status has been recorded
    """)
WARNED_NO_MORE = dedent("""\
    2026-08-20 13:11:08 +0700 Thermal Warning Level = 0
    Note: No performance warning level has been recorded
    Error: No CPU power status with error code 0xe00002bc
    """)
