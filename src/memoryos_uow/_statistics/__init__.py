"""Statistics of a ledger: exact, answered from what was added up before, and disposable.

A million rows cannot be added up within a second, and nothing may be added to the commit path for it. So each unit is
read once, when somebody first asks after it: it is added to tallies by band, space, actor, store and hour, which are
kept beside the ledger in ``<ledger>-stats`` (`side`). A tally counts how many units took so many microseconds, so that
percentiles stay exact. Questions that no tally answers (two criteria at once, parts of an hour) go to the units'
numbers themselves, which the same file keeps column by column (`columns`).

Promise: the answer is the same as if all rows were read. What a unit's band withholds enters no tally (`facts`).
"""

from memoryos_uow._statistics.ask import Question, several, statistics
from memoryos_uow._statistics.facts import CountedUnit, counted, newest_row
from memoryos_uow._statistics.side import forget
from memoryos_uow._statistics.tally import Tally, durations

__all__ = ["CountedUnit", "Question", "Tally", "counted", "durations", "forget", "newest_row", "several", "statistics"]
