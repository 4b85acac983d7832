package differential

import "math/rand/v2"

// Dice make the random choices of a generator of requests. The order of the choices is part of what
// a seed means: a choice that is added or removed changes all later ones of the same request.
type Dice struct{ *rand.Rand }

// NewDice returns the dice for the i-th request of a seed. The same seed and i always give the same
// choices.
func NewDice(seed uint64, i int) Dice {
	return Dice{rand.New(rand.NewPCG(seed, uint64(i)))}
}

// Chance returns true with a probability of this many percent.
func (d Dice) Chance(percent int) bool { return d.IntN(100) < percent }

// One returns one of its arguments. An argument that is given twice is twice as likely.
func (d Dice) One(texts ...string) string { return texts[d.IntN(len(texts))] }
