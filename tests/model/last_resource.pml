/* A unit that another database decides (LAST_RESOURCE), for the model checker Spin (https://spinroot.com).
 *
 * One unit: its rows are saved in the ledger, durable and unseen; the database commits, which is the decision; the rows
 * are applied. `commit.pml` has everything else.
 *
 * What may happen, anywhere and in any order:
 *
 *   CRASHES   times the coordinator or a recoverer dies (a recoverer is begun anew)
 *   LEASES    times the owner is paused for longer than its lease and taken over; it wakes up later
 *   SILENCES  times the database cannot be reached
 *   LOSSES    times the connection is lost with the commit on its way: the database carries it out now, much later or
 *             never, and nobody is told
 *   and the database may refuse before the decision, or at it. RECOVERERS processes recover at the same time.
 *
 * Safety, by assertions at the steps and by the monitor
 *   S1  the ledger shows the unit only if the database has committed it
 *   S2  a caller is told "committed" only of a unit that the database has committed, "failed" only of one that it has
 *       not committed and never will
 *   S3  at rest the ledger has the unit if, and only if, the database has
 * Liveness
 *   L1  once the database answers, the unit is settled, and nothing that was saved of it is left
 *
 * The protocol's table, continued from `commit.pml`:
 *
 *   + PREPARING HELD -> PREPARING: SAVE
 *   + PREPARING SAVED -> PREPARED: DECIDE_ELSEWHERE
 *   + PREPARED DECIDED -> FINISHED: ANNOUNCE
 *   - PREPARED DECIDED_WITH_MORE -> COMMITTED: ANNOUNCE PUBLISH
 *   + PREPARED ANSWER_LOST -> IN_DOUBT: ASK
 *   + PREPARED FAILED -> FAILED: UNDO ABANDON RECORD
 *   + FOUND UNDECIDED_FOUND -> IN_DOUBT: ASK
 *
 * The fence by epochs and the tombstone stand for each other here: a late owner meets both. Without either, S2 breaks.
 *
 * -DBUG=n seeds one of the faults that tests/model/checking.py lists; each has to be found.
 */
#ifndef BUG
#define BUG 0
#endif
#ifndef CRASHES
#define CRASHES 3
#endif
#ifndef LEASES
#define LEASES 2
#endif
#ifndef SILENCES
#define SILENCES 2
#endif
#ifndef LOSSES
#define LOSSES 1
#endif
#ifndef RECOVERERS
#define RECOVERERS 2
#endif

#define NONE 0          /* the unit's row in uow_coordination: not there yet */
#define PREPARING 1
#define GONE 2          /* forgotten */

#define CLOSED 0        /* the unit's transaction in the database: none, or rolled back */
#define OPEN 1          /* held by the coordinator's connection */
#define ON_ITS_WAY 2    /* the commit was sent, and nobody listens for the answer any more */

#define NO_MARK 0
#define COMMITTED 1
#define TOMBSTONE 2

#define UNTOLD 0
#define TOLD_COMMITTED 1
#define TOLD_FAILED 2
#define TOLD_IN_DOUBT 3

#define NOBODY 0

/* In the ledger */
byte row;
byte epoch;
bool saved;
bool applied;           /* the unit's rows are there, and it is said to be committed */
bool failed;            /* its row says "failed" */
byte lock;              /* who holds the ledger's write lock: 1 is the coordinator */

/* In the database */
byte session;
byte mark;

/* About processes */
bool free;              /* whoever owns the row is dead, or has let go of it */
bool ended;             /* the coordinator does nothing more */
byte told;

byte crashes;
byte leases;
byte silences;
byte losses;

#define SETTLED (row != PREPARING)
#define AT_REST (ended && SETTLED && !saved && session == CLOSED)

#define OR_SILENCE :: atomic { silences < SILENCES -> silences++; goto silent }

inline over() {
	ended = true;
	if :: lock == 1 -> lock = NOBODY :: else fi;
	if :: session == OPEN -> session = CLOSED :: else fi;   /* the server rolls back what nobody holds */
	if :: !SETTLED && epoch == 1 -> free = true :: else fi
}

/* Dead: what its server has open it may notice much later. */
inline dies() {
	ended = true;
	if :: lock == 1 -> lock = NOBODY :: else fi;
	if :: !SETTLED && epoch == 1 -> free = true :: else fi
}

#define OR_CRASH :: atomic { crashes < CRASHES -> crashes++; dies(); goto dead }

#if BUG == 3
#define OURS true                                              /* no fence... */
#else
#define OURS (row == PREPARING && epoch == 1)
#endif

proctype Coordinator() {
	/* RECORD_INTENT */
	if
	OR_CRASH
	:: atomic { row = PREPARING; epoch = 1 }
	fi;

	/* PREPARE: the records and the mark, in a transaction that stays open. It collides with a tombstone. */
	if
	OR_CRASH
	:: atomic { told = TOLD_FAILED; goto failing }
	:: atomic { mark == TOMBSTONE -> told = TOLD_FAILED; goto failing }
	:: atomic { mark != TOMBSTONE -> session = OPEN }
	fi;

	/* PREPARING HELD: SAVE, one transaction, refused if recovery has taken over */
	if
	OR_CRASH
	:: atomic { lock == NOBODY && !OURS -> told = TOLD_FAILED; goto failing }
#if BUG == 1
	:: atomic { lock == NOBODY && OURS }                   /* nothing is saved */
#else
	:: atomic { lock == NOBODY && OURS -> saved = true }
#endif
	fi;

	/* PREPARING SAVED: DECIDE_ELSEWHERE. The ledger's transaction, with the lock, and everything checked in it... */
	if
	OR_CRASH
	:: atomic { lock == NOBODY && !OURS -> told = TOLD_FAILED; goto failing }
	:: atomic { lock == NOBODY && OURS -> lock = 1 }
	fi;
#if BUG == 5
	applied = true;                                        /* the ledger first */
#endif

	/* ... then the database's commit: it answers, refuses (PREPARED FAILED), or is not heard of any more */
	if
	OR_CRASH
	:: atomic { session = CLOSED; told = TOLD_FAILED; goto failing }
	:: atomic { session = CLOSED; mark = COMMITTED }
	:: atomic { losses < LOSSES -> losses++; session = ON_ITS_WAY; goto asking }
	:: atomic { crashes < CRASHES -> crashes++; session = ON_ITS_WAY; dies(); goto dead }
	fi;

deciding:
	/* ... then the ledger's: PREPARED DECIDED: ANNOUNCE */
	if
	OR_CRASH
	:: atomic {
		applied = true;
		assert(mark == COMMITTED);                     /* S1 */
		saved = false;
		row = GONE;
		lock = NOBODY;
		told = TOLD_COMMITTED;
		over();
		goto dead
	   }
	fi;

asking:
	/* PREPARED ANSWER_LOST: ASK, while the ledger's transaction is open still */
#if BUG == 4
	atomic { told = TOLD_FAILED; goto failing };           /* no answer is taken for a failure */
#endif
	if
	OR_CRASH
	OR_SILENCE
	:: atomic { session == ON_ITS_WAY -> goto silent }     /* its locks are in the way */
	:: atomic { session == CLOSED && mark == COMMITTED -> goto deciding }
	:: atomic { session == CLOSED && mark != COMMITTED -> mark = TOMBSTONE; lock = NOBODY; told = TOLD_FAILED }
	fi;
	if
	OR_CRASH
	:: atomic { lock == NOBODY -> failed = true; saved = false; row = GONE; over(); goto dead }
	fi;

silent:
	atomic { told = TOLD_IN_DOUBT; over(); goto dead };

failing:
	/* PREPARED FAILED: UNDO, ABANDON, RECORD */
	atomic { if :: lock == 1 -> lock = NOBODY :: else fi };
	if
	OR_CRASH
	:: atomic { if :: session == OPEN -> session = CLOSED :: else fi }
	fi;
	if
	OR_CRASH
	:: atomic { lock == NOBODY ->
		failed = true;
		if :: epoch == 1 -> saved = false; row = GONE :: else fi;
		over()
	   }
	fi;

dead:
end_dead:
	false
}

/* The server: carries out what is on its way, or notices that a connection is gone, at any time. */
active proctype Server() {
end_server:
	do
	:: atomic { session == ON_ITS_WAY -> session = CLOSED; mark = COMMITTED }
	:: atomic { session == ON_ITS_WAY -> session = CLOSED }
	:: atomic { session == OPEN && ended -> session = CLOSED }
	od
}

#if BUG == 2
#define BLOCKED false                                          /* an open transaction is taken for none */
#else
#define BLOCKED (session != CLOSED)
#endif

inline anew() { if :: lock == me -> lock = NOBODY :: else fi; mine = 0 }
inline let_go() { if :: row == PREPARING && epoch == mine -> free = true :: else fi; anew() }
#undef OR_CRASH
#define OR_CRASH :: atomic { crashes < CRASHES -> crashes++; let_go(); goto look }

proctype Recoverer(byte me) {
	byte mine;

look:
end_at_rest:
	/* FOUND: take it over, one transaction: the look and the conditional UPDATE are told apart in commit.pml */
#if BUG == 6
	!saved;                                                /* nobody asks for what another store has decided */
#endif
	atomic { row == PREPARING && lock == NOBODY && (free || leases < LEASES) ->
		if :: free :: else -> leases++ fi;
		epoch++;
		mine = epoch;
		free = false
	};

	/* FOUND UNDECIDED_FOUND: ASK; or nothing was saved, and the abandoning settles it in the same way */
	if
	OR_CRASH
	:: atomic { silences < SILENCES -> silences++; let_go(); goto look }    /* out of reach, or its locks are in the way */
#if BUG == 3
	:: atomic { !BLOCKED && mark != COMMITTED }            /* ... and no tombstone: each alone would do */
#else
	:: atomic { !BLOCKED && mark != COMMITTED -> mark = TOMBSTONE }
#endif
	:: atomic { !BLOCKED && mark == COMMITTED -> goto committed }
	fi;
	if
	OR_CRASH
	:: atomic { lock == NOBODY ->
		if :: row == PREPARING && epoch == mine -> failed = true; saved = false; row = GONE :: else fi;
		anew();
		goto look
	   }
	fi;

committed:
	/* apply what was saved: one transaction */
	if
	OR_CRASH
	:: atomic { lock == NOBODY ->
		if
		:: row == PREPARING && epoch == mine ->
			assert(saved);                         /* S3: what was decided can be finished */
			assert(mark == COMMITTED);             /* S1 */
			applied = true;
			saved = false;
			row = GONE
		:: else
		fi;
		anew();
		goto look
	   }
	fi
}

#ifndef LIVENESS
#define NEVER(what) :: atomic { (what) -> assert(false) }

active proctype Monitor() {
end:
	do
	NEVER(told == TOLD_COMMITTED && mark != COMMITTED)                     /* S2 */
	NEVER(told == TOLD_FAILED && mark == COMMITTED)
	NEVER(applied && mark != COMMITTED)                                    /* S1 */
	NEVER(failed && mark == COMMITTED)
	NEVER(AT_REST && applied != (mark == COMMITTED))                       /* S3 */
	od
}
#endif

init {
	atomic {
		run Coordinator();
		run Recoverer(3);
#if RECOVERERS > 1
		run Recoverer(4)
#endif
	}
}

ltl rest { <> [] AT_REST }
