/* The commit protocol of memoryos-uow, for the model checker Spin (https://spinroot.com).
 *
 * Two units write the same record in three stores, so that order matters:
 *
 *   STAGED             made durable under the unit's id before the decision, published by rename after it
 *   REDO               payload in the decision's transaction, applied after it
 *   CONTENT_ADDRESSED  bytes durable under their digest before the decision, which refers to them; both units have the
 *                      same content, and a sweep removes what nobody refers to
 *
 * What may happen, anywhere and in any order:
 *
 *   CRASHES   times a coordinator or a recoverer dies, in recovery too (a recoverer is begun anew, a coordinator is not)
 *   LEASES    times an owner is paused for longer than its lease and taken over; it wakes up later
 *   SILENCES  times a store outside the ledger cannot be reached
 *   LOSSES    times the answer to the decision is lost; the commit is there, or is not, or is not until a process that
 *             opens the ledger after a crash reads it from the log (a "ghost")
 *   and a store may refuse before the decision. RECOVERERS processes recover at the same time.
 *
 * A step is what nobody else can interrupt: one transaction of the ledger, one of the second file, one rename. Between
 * two steps everything else may happen, and instead of each step its process may die. The units are alike, so the one
 * that records its intent first is called 0.
 *
 * Left out, and where it is looked at: power cuts and what they lose, units that hold the lock while bytes are made, rows
 * that go along with later transactions, several units of one process (all: the simulation); what happens inside one
 * store's directory (the crash exploration).
 *
 * Safety, by assertions at the steps and by the monitor
 *   S1  a store shows a unit only if it is decided
 *   S2  a store never goes back from a newer unit's value to an older one's
 *   S3  a caller is told "committed" only of a decided unit, "failed" only of one that is not decided and never will be
 *   S4  at rest every store holds the newest decided unit's value, and nothing is left that belongs to no unit
 *   S5  what a decision refers to is never removed
 * Liveness
 *   L1  the system comes to rest, whatever happened: both units are settled and forgotten, and nothing is left over.
 *       (`ltl rest`, checked without assuming any fairness, which is more. Spin's -f would hide that everybody waits.)
 *
 * The protocol's table; a test compares these lines with the code. Each marked "+" has its step below; of those marked
 * "-" nothing reaches a store outside or the rows that recovery reads.
 *
 *   - ACTIVE NOTHING_TO_DO -> FINISHED: UNDO
 *   - ACTIVE COMMIT_ASKED -> PREPARING: DECIDE
 *   + ACTIVE COMMIT_ASKED_OUTSIDE -> PREPARING: RECORD_INTENT
 *   - ACTIVE ROLLBACK_ASKED -> ROLLED_BACK: UNDO RECORD
 *   - ACTIVE FAILED -> FAILED: UNDO RECORD
 *   + PREPARING INTENT_RECORDED -> PREPARING: PREPARE
 *   + PREPARING PREPARED -> PREPARING: DECIDE
 *   - PREPARING DECIDED -> FINISHED: ANNOUNCE
 *   + PREPARING DECIDED_WITH_MORE -> COMMITTED: ANNOUNCE PUBLISH
 *   + PREPARING ANSWER_LOST -> IN_DOUBT: PROVE_GONE
 *   + PREPARING FAILED -> FAILED: UNDO ABANDON RECORD
 *   + COMMITTED PUBLISHED -> FINISHED: FORGET
 *   + COMMITTED STORE_SILENT -> COMMITTED: RECORD_SILENCE
 *   + IN_DOUBT PROVEN_GONE -> FAILED: ABANDON
 *   + IN_DOUBT DECISION_FOUND -> COMMITTED: ANNOUNCE PUBLISH
 *   + FOUND DECISION_FOUND -> COMMITTED: PUBLISH
 *   + FOUND NO_DECISION_FOUND -> FAILED: ABANDON RECORD
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
#define SILENCES 1
#endif
#ifndef LOSSES
#define LOSSES 1
#endif
#ifndef RECOVERERS
#define RECOVERERS 1
#endif

#define NONE 0          /* a unit's row in uow_coordination: not there yet */
#define PREPARING 1
#define COMMITTED 2
#define GONE 3          /* forgotten */

#define UNTOLD 0
#define TOLD_COMMITTED 1
#define TOLD_FAILED 2
#define TOLD_IN_DOUBT 3

#define NOBODY 0        /* holds the lock; 1 and 2 are the coordinators, 3 and 4 the recoverers */

/* In the ledger */
byte row[2];
byte epoch[2];
byte seq[2];            /* commit sequence of a decided unit, else 0 */
byte head;              /* commit sequence of the newest decided unit: the version of the record */
bool failed[2];         /* the unit's own row says "failed" */
byte ghost;             /* 1 + unit whose lost commit stands in the log until somebody writes over it */

/* In the stores */
bool staged[2];         /* STAGED: bytes in the hidden place */
byte holds[2];          /* commit sequence of what STAGED (0) and REDO (1) show */
bool bytes;             /* CONTENT_ADDRESSED: the content of both units */
byte lock;              /* who publishes in STAGED */

/* About processes */
bool free[2];           /* whoever owns the row is dead, or has let go of it */
bool ended[2];          /* the coordinator does nothing more */
byte told[2];

byte crashes;
byte leases;
byte silences;
byte losses;

#define SETTLED(u) (row[u] == NONE || row[u] == GONE)

#if BUG == 12
#define BYTES_LEFT_OVER (bytes && head == 0)                   /* whatever is planned */
#else
#define BYTES_LEFT_OVER (bytes && head == 0 && row[0] != PREPARING && row[1] != PREPARING)
#endif
#define LEFT_OVER (staged[0] && SETTLED(0) || staged[1] && SETTLED(1) || BYTES_LEFT_OVER)
#define AT_REST (ended[0] && ended[1] && SETTLED(0) && SETTLED(1) && !LEFT_OVER)

/* What may come instead of a step, or be its outcome. */
#define OR_REFUSAL :: atomic { told[u] = TOLD_FAILED; goto failing }
#define OR_SILENCE :: atomic { silences < SILENCES -> silences++; silent = true }

/* Every transaction of the ledger writes over what a lost commit has left in its log. */
#define TRANSACTION ghost = 0

inline decide(u) {
	row[u] = COMMITTED;
	head++;
	seq[u] = head;
	assert(bytes || BUG == 1)                              /* S5 */
}

/* A forgotten row is gone, and with it who owned it. */
inline forget(u) {
	row[u] = GONE;
	epoch[u] = 0;
	free[u] = false;
	TRANSACTION
}

/* PUBLISH in STAGED: under the lock, look at the record's head in the ledger, then rename if it is still ours. */
inline look_at_head(u) {
#if BUG != 10
	lock = me;
#endif
	newest = (head == seq[u])
}

inline give_name(u) {
	if
#if BUG == 6
	:: staged[u] ->                                        /* whatever the head is */
#else
	:: newest && staged[u] ->
#endif
		assert(seq[u] != 0);                           /* S1 */
		assert(holds[0] <= seq[u]);                    /* S2 */
		holds[0] = seq[u]
	:: else
	fi;
	staged[u] = false;
	newest = false;
	lock = NOBODY
}

/* PUBLISH in REDO: one transaction of the second file, guarded by the commit sequence. */
inline apply_redo(u) {
	assert(seq[u] != 0);                                   /* S1 */
	if
#if BUG == 3
	:: true ->                                             /* no guard */
#else
	:: holds[1] < seq[u] ->
#endif
		assert(holds[1] <= seq[u]);                    /* S2 */
		holds[1] = seq[u]
	:: else
	fi
}

/* The with-block's side. */

#if BUG == 4 || BUG == 5
#define MAY_DECIDE true                                        /* no fence; without an intent there is nothing to ask */
#else
#define MAY_DECIDE (row[u] == PREPARING && epoch[u] == 1)
#endif

#if BUG == 13
#define DECISION_FOUND (seq[u] != 0 || failed[u])              /* any row of the unit is taken for its decision */
#else
#define DECISION_FOUND (seq[u] != 0)
#endif

/* Dead, or with nothing more to do: the row is free from now on, unless it was taken over before. */
inline over() {
	ended[u] = true;
	if :: lock == me -> lock = NOBODY :: else fi;
	if :: !SETTLED(u) && epoch[u] == 1 -> free[u] = true :: else fi;
	newest = false;
	silent = false
}

#define OR_CRASH :: atomic { crashes < CRASHES -> crashes++; over(); goto dead }

proctype Coordinator(byte u; byte me) {
	bool newest;
	bool silent;

	/* ACTIVE COMMIT_ASKED_OUTSIDE: RECORD_INTENT. The unit that does so first is 0, and so it does. */
	if
	:: atomic { u == 1 && crashes < CRASHES -> crashes++; over(); goto dead }
#if BUG == 5
	:: true                                                /* bytes without an intent */
#else
	:: atomic { u == 0 || row[0] != NONE -> row[u] = PREPARING; epoch[u] = 1; TRANSACTION }
#endif
	fi;

	/* PREPARING INTENT_RECORDED: PREPARE, store by store */
#if BUG != 1
	if
	OR_CRASH
	OR_REFUSAL
	:: staged[u] = true
	fi;
	if
	OR_CRASH
	OR_REFUSAL
	:: bytes = true
	fi;
#endif
#if BUG == 2
	told[u] = TOLD_COMMITTED;                              /* before the decision */
#endif

	/* PREPARING PREPARED: DECIDE, one transaction, refused if recovery has taken over.
	 * DECIDED_WITH_MORE: ANNOUNCE; or ANSWER_LOST, and it is there, or is not, or is not yet; or FAILED. */
	if
	OR_CRASH
	OR_REFUSAL
	:: atomic { MAY_DECIDE -> decide(u); TRANSACTION; told[u] = TOLD_COMMITTED; goto decided }
	:: atomic { MAY_DECIDE && losses < LOSSES -> losses++; decide(u); TRANSACTION }
	:: atomic { MAY_DECIDE && losses < LOSSES -> losses++ }
	:: atomic { MAY_DECIDE && losses < LOSSES -> losses++; ghost = 1 + u }
	:: atomic { !MAY_DECIDE -> told[u] = TOLD_FAILED; goto failing }
	fi;

	/* IN_DOUBT: PROVE_GONE, one transaction. It may fail too, and then recovery has the last word.
	 * DECISION_FOUND: ANNOUNCE; or PROVEN_GONE. */
#if BUG == 7
	told[u] = TOLD_FAILED;                                 /* no answer is taken for a failure */
	goto failing;
#endif
	if
	OR_CRASH
	:: atomic { told[u] = TOLD_IN_DOUBT; over(); goto dead }
	:: atomic { DECISION_FOUND -> told[u] = TOLD_COMMITTED }
#if BUG == 11
	:: atomic { !DECISION_FOUND -> told[u] = TOLD_FAILED; goto failing }         /* only looks, writes nothing over it */
#else
	:: atomic { !DECISION_FOUND -> failed[u] = true; TRANSACTION; told[u] = TOLD_FAILED; goto failing }
#endif
	fi;

decided:
#if BUG == 1
	if
	OR_CRASH
	:: atomic { staged[u] = true; bytes = true }           /* bytes only after the decision */
	fi;
#endif
	/* COMMITTED: PUBLISH what the ledger says is owed, store by store; a silent one stops not the other */
	if
	OR_CRASH
	:: atomic { row[u] == COMMITTED -> skip }
	:: atomic { row[u] != COMMITTED -> over(); goto dead }  /* recovery was faster */
	fi;
#if BUG == 8
	atomic { forget(u) };                                  /* before every store has answered */
#endif
	if
	OR_CRASH
	OR_SILENCE
	:: atomic { lock == NOBODY -> look_at_head(u) };
		if
		OR_CRASH
		:: atomic { give_name(u) }
		fi
	fi;
	if
	OR_CRASH
	OR_SILENCE
	:: atomic { apply_redo(u) }
	fi;
	/* COMMITTED PUBLISHED: FORGET; or STORE_SILENT: RECORD_SILENCE */
	if
	OR_CRASH
	:: atomic { !silent -> forget(u); over(); goto dead }
	:: atomic { silent -> TRANSACTION; over(); goto dead }
	fi;

failing:
	/* PREPARING FAILED, or IN_DOUBT PROVEN_GONE: ABANDON, then RECORD; what cannot be removed now keeps its row */
	if
	OR_CRASH
	:: atomic { silences < SILENCES -> silences++; failed[u] = true; TRANSACTION; over(); goto dead }
	:: staged[u] = false
	fi;
	if
	OR_CRASH
	:: atomic { failed[u] = true; forget(u); over(); goto dead }
	fi;

dead:
end_dead:
	false
}

/* Recovery's side. */

#if BUG == 14
#define UNSETTLED(i) (row[i] == PREPARING)                     /* what a silent store owes is never asked for again */
#else
#define UNSETTLED(i) (row[i] == PREPARING || row[i] == COMMITTED)
#endif

#if BUG == 9
#define UNCHANGED (epoch[u] == mine)                           /* it may have been decided since the look */
#else
#define UNCHANGED (epoch[u] == mine && row[u] == seen)
#endif

#if BUG == 15
#define SWEEPS false
#else
#define SWEEPS true
#endif

inline look_at_row(i) {
	if :: free[i] :: else -> leases++ fi;
	u = i;
	seen = row[i];
	mine = epoch[i]
}

/* Begun anew */
inline anew() {
	if :: lock == me -> lock = NOBODY :: else fi;
	u = 0;
	seen = 0;
	mine = 0;
	newest = false;
	silent = false
}

/* Dead, or unable to finish the unit now: its row is free, unless it was taken over. */
inline let_go() {
	if :: !SETTLED(u) && epoch[u] == mine -> free[u] = true :: else fi;
	anew()
}

#undef OR_CRASH
#define OR_CRASH :: atomic { crashes < CRASHES -> crashes++; let_go(); goto look }

proctype Recoverer(byte me) {
	byte u;
	byte seen;
	byte mine;      /* the epoch that was seen, then our own */
	bool newest;
	bool silent;

look:
end_at_rest:
	/* FOUND: the owner is dead, has let go, or is only paused for longer than its lease. Or sweep, in one transaction,
	 * so that no unit can record an intent or be decided meanwhile. */
	if
	:: atomic { UNSETTLED(0) && (free[0] || leases < LEASES) -> look_at_row(0) }
	:: atomic { UNSETTLED(1) && (free[1] || leases < LEASES) -> look_at_row(1) }
	:: atomic { LEFT_OVER && SWEEPS ->
		if :: staged[0] && SETTLED(0) -> staged[0] = false :: else fi;
		if :: staged[1] && SETTLED(1) -> staged[1] = false :: else fi;
		if :: BYTES_LEFT_OVER -> bytes = false :: else fi;
		TRANSACTION;
		goto look
	   }
#if RECOVERERS == 1
	/* The first process to open the ledger after a crash reads its log, and finds there what was lost. */
	:: atomic { ghost != 0 && ended[0] && ended[1] -> u = ghost - 1; ghost = 0; decide(u); u = 0; goto look }
#endif
	fi;

	/* Take it over, if nothing has happened to it since the look: one transaction */
	if
	:: atomic { crashes < CRASHES -> crashes++; anew(); goto look }
	:: atomic { !UNCHANGED -> anew(); goto look }
	:: atomic { UNCHANGED ->
		epoch[u]++;
		mine = epoch[u];
		free[u] = false;
		TRANSACTION;
		if
		:: seen == PREPARING -> seen = 0; goto undecided
		:: else -> seen = 0
		fi
	   }
	fi;

	/* FOUND DECISION_FOUND: PUBLISH, as above */
	if
	OR_CRASH
	:: atomic { row[u] == COMMITTED -> skip }
	:: atomic { row[u] != COMMITTED -> anew(); goto look }
	fi;
	if
	OR_CRASH
	OR_SILENCE
	:: atomic { lock == NOBODY -> look_at_head(u) };
		if
		OR_CRASH
		:: atomic { give_name(u) }
		fi
	fi;
	if
	OR_CRASH
	OR_SILENCE
	:: atomic { apply_redo(u) }
	fi;
	/* COMMITTED PUBLISHED: FORGET; or STORE_SILENT: RECORD_SILENCE */
	if
	OR_CRASH
	:: atomic { !silent -> forget(u); anew(); goto look }
	:: atomic { silent -> TRANSACTION; let_go(); goto look }
	fi;

undecided:
	/* FOUND NO_DECISION_FOUND: ABANDON, then RECORD; what cannot be removed now keeps its row */
	if
	OR_CRASH
	:: atomic { silences < SILENCES -> silences++; let_go(); goto look }
	:: staged[u] = false
	fi;
	if
	OR_CRASH
	:: atomic {
		if :: seq[u] == 0 -> failed[u] = true :: else fi;
		forget(u);
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
	NEVER(told[0] == TOLD_COMMITTED && seq[0] == 0)                                   /* S3 */
	NEVER(told[1] == TOLD_COMMITTED && seq[1] == 0)
	NEVER(told[0] == TOLD_FAILED && seq[0] != 0)
	NEVER(told[1] == TOLD_FAILED && seq[1] != 0)
	NEVER(failed[0] && seq[0] != 0)
	NEVER(failed[1] && seq[1] != 0)
	NEVER(AT_REST && (holds[0] != head || holds[1] != head || bytes != (head != 0)))  /* S4 */
	NEVER(seq[0] != 0 && head == seq[0] && holds[0] < seq[0] && !staged[0])           /* S5 */
	NEVER(seq[1] != 0 && head == seq[1] && holds[0] < seq[1] && !staged[1])
	NEVER(head != 0 && !bytes)
	od
}
#endif

init {
	atomic {
		run Coordinator(0, 1);
		run Coordinator(1, 2);
		run Recoverer(3);
#if RECOVERERS > 1
		run Recoverer(4)
#endif
	}
}

ltl rest { <> [] AT_REST }
