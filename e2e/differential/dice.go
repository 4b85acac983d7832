package differential

import "math/rand/v2"

// Dice are the choices of a generator. The same seed and number always give the same choices.
type Dice struct{ *rand.Rand }

// NewDice returns the dice for the i-th request of a seed.
func NewDice(seed uint64, i int) Dice {
	return Dice{rand.New(rand.NewPCG(seed, uint64(i)))}
}

// Chance reports true in percent of 100 cases.
func (d Dice) Chance(percent int) bool { return d.IntN(100) < percent }

// One returns one of some texts.
func (d Dice) One(of ...string) string { return of[d.IntN(len(of))] }
