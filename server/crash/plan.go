package main

import (
	"math/rand/v2"
	"time"
)

// moment says when in a cycle the server is killed.
type moment int

const (
	afterChanges  moment = iota // so many changes were answered 200
	afterRequests               // so many requests have arrived: the last is being answered, and not recorded yet
	afterTime                   // so long after it was ready
	whileHeld                   // the quick receiver holds some requests
	afterAgain                  // what was held at an earlier kill has arrived again
	whileStarting               // before it was ready, or hardly later
	whileStopping               // after SIGTERM
	whileNew                    // at its very first start, which makes the store
	moments                     // how many there are
)

func (m moment) String() string {
	return [moments]string{
		"after some changes", "after some requests", "after some time", "while requests are held", "after these came again",
		"while it starts", "while it stops", "while it makes its store",
	}[m]
}

// plan is one cycle. What does not belong to its moment is not looked at.
type plan struct {
	moment moment
	count  int           // of changes or requests
	held   int           // of requests that have no answer
	wait   time.Duration // from ready to the kill or to SIGTERM
	grace  time.Duration // from SIGTERM to the kill
	part   float64       // of the time that a start takes, 0 to 1
	holds  bool          // receivers leave some requests without an answer
}

// plans decides about all cycles: they are dealt from a deck of ten in which each moment is, until it is empty.
func plans(seed uint64, cycles int) []plan {
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // no secret
	deck := [][]moment{
		{afterChanges},
		{afterChanges},
		{afterRequests},
		{afterRequests},
		{afterTime},
		{whileHeld, afterAgain},
		{whileStarting},
		{whileStopping},
		{whileNew},
	}
	var dealt []plan
	for len(dealt) < cycles {
		for _, i := range random.Perm(len(deck)) {
			for _, m := range deck[i] {
				dealt = append(dealt, draw(random, m))
			}
		}
	}
	return dealt[:cycles]
}

func draw(random *rand.Rand, m moment) plan {
	return plan{
		moment: m,
		count:  1 + random.IntN(200),
		held:   1 + random.IntN(3),
		wait:   time.Duration(random.Int64N(int64(300 * time.Millisecond))),
		grace:  time.Duration(random.Int64N(int64(60 * time.Millisecond))),
		part:   random.Float64(),
		holds:  m == whileHeld || (m != afterAgain && random.IntN(4) > 0),
	}
}
