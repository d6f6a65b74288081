/* The commit protocol of memoryos-uow, for the model checker Spin (https://spinroot.com).
 *
 * Two units write to three stores each:
 *   store 0  STAGED   bytes made durable under the unit's id before the decision, published by rename after it
 *   store 1  REDO     payload in the decision's transaction, applied after it
 *   store 2  REDO     the same, and it may be silent for a while
 * Both units write the same record in every store, so that order matters: no store may go back to the older unit.
 * Up to CRASHES crashes of coordinators and recoverers, anywhere, recovery included. A coordinator that is paused may be
 * taken over and wake up later. The answer to the decision may be lost: the coordinator then asks the ledger.
 *
 * The ledger's transactions are atomic steps, because SQLite's are; everything between two of them can be interleaved
 * with everything else.
 *
 * Safety (assertions and the monitor at the end)
 *   S1  a unit is published in a store only if it is decided
 *   S2  a store never goes back from a newer unit's value to an older one's
 *   S3  a caller is told "committed" only if the unit is decided, and "failed" only if it is not and never will be
 *   S4  at rest every store holds the newest decided unit's value, and nothing is staged
 *   S5  bytes of a decided unit are never removed before they are published
 * Liveness (ltl rest)
 *   L1  the system comes to rest: every unit is settled and forgotten, whatever crashed
 *
 * -DBUG=n seeds one of the faults listed in test_model.py; each has to be found.
 */
#ifndef BUG
#define BUG 0
#endif
#ifndef CRASHES
#define CRASHES 3
#endif
#define UNITS 2
#define STORES 3
#ifndef LEASES
#define LEASES 2
#endif

mtype = { none, preparing, committed, gone };      /* a unit's row of coordination; gone: forgotten */
mtype = { untold, told_committed, told_failed };

mtype row[UNITS] = none;        /* durable, in the ledger */
byte  seq[UNITS] = 0;           /* commit sequence, 0: not decided */
bool  decided[UNITS] = false;   /* durable: the unit's row says committed */
bool  failed[UNITS] = false;    /* durable: the unit's row says failed */
byte  epoch[UNITS] = 0;
bool  ownerless[UNITS] = false; /* the owner of the row is dead or has let go, and others can see it */
byte  expired = 0;              /* leases of living owners that ran out so far */
byte  next_seq = 1;

bool  staged[UNITS] = false;    /* durable bytes in the hidden place of store 0 */
byte  head = 0;                 /* newest decided sequence of the record: in the ledger */
byte  holds[STORES] = 0;        /* sequence of the unit whose value the store shows */

mtype told[UNITS] = untold;
byte  crashes = 0;
bool  ended[UNITS] = false;     /* the coordinator's process is over, well or by a crash */

/* A crash may come wherever this stands: the process stops there for ever. */
#define MAY_CRASH(u) \
	if \
	:: crashes < CRASHES -> crashes++; goto over \
	:: true \
	fi

#define AT_REST (ended[0] && ended[1] && row[0] != preparing && row[0] != committed \
                 && row[1] != preparing && row[1] != committed && !staged[0] && !staged[1])

/* Show unit u's value in store st, guarded: never backwards. Atomic, because each store does it under its own lock. */
inline apply(u, st) {
	d_step {
		if
		:: st == 0 ->
			if
#if BUG == 6
			:: staged[u] -> holds[0] = seq[u]             /* no look at the head: a late publisher goes back */
#else
			:: staged[u] && head == seq[u] -> holds[0] = seq[u]
#endif
			:: else -> skip
			fi
		:: else ->
			if
#if BUG == 3
			:: true -> assert(holds[st] <= seq[u]); holds[st] = seq[u]   /* no guard by sequence */
#else
			:: holds[st] < seq[u] -> holds[st] = seq[u]
#endif
			:: else -> skip
			fi
		fi;
		assert(decided[u]);                                   /* S1 */
	}
}

inline forget(u) {
	d_step {
		if
		:: row[u] == committed -> row[u] = gone; staged[u] = false
		:: else -> skip
		fi
	}
}

proctype Coordinator(byte u) {
	byte st = 0;
	bool still_ours = false;
	bool lost = false;

	/* RECORD_INTENT: one transaction */
#if BUG != 5
	d_step { row[u] = preparing; epoch[u] = 1 };
	MAY_CRASH(u);
#endif

	/* PREPARE: bytes durable under our id */
#if BUG != 1
	staged[u] = true;
	MAY_CRASH(u);
#endif

#if BUG == 2
	told[u] = told_committed;                                     /* early acknowledgement */
	MAY_CRASH(u);
#endif

	/* DECIDE: one transaction, refused if recovery has taken over */
	d_step {
		if
#if BUG == 4
		:: true ->                                            /* no fence */
#elif BUG == 5
		:: true ->
#else
		:: row[u] == preparing && epoch[u] == 1 ->
#endif
			still_ours = true; row[u] = committed; decided[u] = true;
			seq[u] = next_seq; next_seq++; head = seq[u]
		:: else -> skip
		fi
	};
	MAY_CRASH(u);
	if
	:: still_ours -> if :: lost = true :: lost = false fi         /* the answer may be lost on its way back */
	:: else -> skip
	fi;
	if
	:: lost ->
#if BUG == 7
		told[u] = told_failed;                                /* a lost answer taken for a failure */
		goto done;
#else
		still_ours = decided[u];                              /* PROVE_GONE: ask the ledger */
#endif
	:: else -> skip
	fi;

	if
	:: still_ours ->
#if BUG == 1
		staged[u] = true;                                     /* bytes only after the decision */
		MAY_CRASH(u);
#endif
#if BUG != 2
		told[u] = told_committed;
#endif
#if BUG == 8
		forget(u);                                            /* forgotten before it is published */
		MAY_CRASH(u);
#endif
		/* PUBLISH */
		do
		:: st < STORES ->
			if
			:: apply(u, st); st++
			:: st == 2 -> goto done                       /* silent: left to recovery */
			fi;
			MAY_CRASH(u)
		:: else -> break
		od;
		forget(u)
	:: else ->
		told[u] = told_failed;
		d_step { if :: row[u] == none || row[u] == gone -> staged[u] = false :: else -> skip fi }
	fi;
done:
over:
	skip;
	d_step { ended[u] = true; if :: epoch[u] <= 1 -> ownerless[u] = true :: else -> skip fi }
}

/* A recoverer looks at one unit at a time. It takes over what is free: the owner is dead, or is only paused for longer
 * than its lease, which may happen to a living one at any moment (LEASES times in all, to keep the model finite). */
#define CRASH_HERE(u) \
	if \
	:: crashes < CRASHES -> \
		d_step { crashes++; if :: epoch[u] == mine -> ownerless[u] = true :: else -> skip fi }; \
		goto again \
	:: true \
	fi

inline recover(u) {
	took = false;
	d_step {
		if
		:: (row[u] == preparing || row[u] == committed) && ownerless[u] ->
			took = true; ownerless[u] = false; epoch[u]++; mine = epoch[u]
		:: (row[u] == preparing || row[u] == committed) && !ownerless[u] && expired < LEASES ->
			took = true; expired++; epoch[u]++; mine = epoch[u]
		:: else -> skip
		fi
	};
	if
	:: took && row[u] == preparing ->
		/* ABANDON, then RECORD and forget, if nobody has taken over from us meanwhile */
		CRASH_HERE(u);
		d_step { if :: !decided[u] && epoch[u] == mine -> staged[u] = false :: else -> skip fi };
		CRASH_HERE(u);
		d_step {
			if
			:: row[u] == preparing && epoch[u] == mine -> row[u] = gone; failed[u] = true
			:: else -> skip
			fi
		}
	:: took && row[u] == committed ->
		st = 0;
		do
		:: st < STORES ->
			apply(u, st);
			st++;
			CRASH_HERE(u)
		:: else -> break
		od;
		forget(u)
	:: else -> skip
	fi
}

proctype Recoverer() {
	byte u = 0;
	byte st = 0;
	byte mine = 0;
	bool took = false;
again:
	u = 0;
	do
	:: u < UNITS -> recover(u); u++
	:: else -> break
	od;
	/* orphans: staged without a row, as a lost intent leaves them; the owner must be gone */
	u = 0;
	do
	:: u < UNITS ->
		d_step {
			if
			:: ended[u] && !decided[u] && (row[u] == none || row[u] == gone) -> staged[u] = false
			:: else -> skip
			fi
		};
		u++
	:: else -> break
	od;
	if
	:: AT_REST -> goto finish
	:: else -> goto again
	fi;
finish:
	skip
}

/* S2 and S3 all the time, S4 at rest */
active proctype Monitor() {
	byte seen = 0;
	byte st = 0;
end:
	do
	:: atomic { told[0] == told_committed && !decided[0] -> assert(false) }
	:: atomic { told[1] == told_committed && !decided[1] -> assert(false) }
	:: atomic { told[0] == told_failed && decided[0] -> assert(false) }
	:: atomic { told[1] == told_failed && decided[1] -> assert(false) }
	:: atomic { decided[0] && failed[0] -> assert(false) }
	:: atomic { decided[1] && failed[1] -> assert(false) }
	:: atomic { decided[0] && row[0] == committed && !staged[0] && holds[0] < seq[0] && head == seq[0] -> assert(false) } /* S5 */
	:: atomic { decided[1] && row[1] == committed && !staged[1] && holds[0] < seq[1] && head == seq[1] -> assert(false) }
	:: atomic { AT_REST && (holds[0] != head || holds[1] != head || holds[2] != head) -> assert(false) }
	od
}

init {
	atomic {
		run Coordinator(0);
		run Coordinator(1);
		run Recoverer();
		run Recoverer()
	}
}

ltl rest { <> [] AT_REST }
