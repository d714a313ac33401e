// Package agree has tests that run the same scenarios on the system that they find and, with the tag sim, on the
// simulated one. What each party sees must be the same everywhere; otherwise the simulation is not faithful, or a
// promise does not hold on that system.
package agree
