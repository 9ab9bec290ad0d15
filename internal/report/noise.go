package report

import "math"

const (
	// confidence is the two-sided 95 % quantile of the normal distribution.
	confidence = 1.959964
	// fewest is by how many events a count must differ from what one rate for both sides
	// predicts: fewer are noise, whatever the ratio.
	fewest = 5
	// trafficDiffers is by what share rates of traffic must differ. They do not vary as
	// counts of independent events do, so that an interval would mean nothing.
	trafficDiffers = 0.1
)

// A Test is whether two rates differ by more than noise.
type Test struct {
	Ratio     float64 // rate of B by rate of A; NaN if neither has events, +Inf if only B has
	Low, High float64 // 95 % interval of the ratio; NaN where it is not tested
	Differs   bool
}

// testRates compares counts of events that happen independently of each other. Given their
// sum, the part of B is binomial, with B's share of the exposure as its chance if the rates
// are equal. They differ if Wilson's 95 % interval of that part excludes that share, and the
// counts are more than 5 from what one rate for both predicts.
func testRates(a, b Count) Test {
	t := Test{Ratio: math.NaN(), Low: math.NaN(), High: math.NaN()}
	if a.Exposure <= 0 || b.Exposure <= 0 {
		return t
	}
	x, y := float64(a.Events), float64(b.Events)
	t.Ratio = (y / b.Exposure) / (x / a.Exposure)
	if x+y == 0 {
		return t
	}
	low, high := wilson(y, x+y)
	odds := a.Exposure / b.Exposure
	t.Low, t.High = low/(1-low)*odds, high/(1-high)*odds
	if high == 1 {
		t.High = math.Inf(1)
	}
	predicted := (x + y) * b.Exposure / (a.Exposure + b.Exposure)
	t.Differs = math.Abs(y-predicted) > fewest && (t.Low > 1 || t.High < 1)
	return t
}

// wilson is the 95 % interval of a share of which part of whole were seen.
func wilson(part, whole float64) (low, high float64) {
	const z = confidence
	p := part / whole
	middle := p + z*z/(2*whole)
	spread := z * math.Sqrt(p*(1-p)/whole+z*z/(4*whole*whole))
	scale := 1 + z*z/whole
	low, high = max((middle-spread)/scale, 0), min((middle+spread)/scale, 1)
	if part == 0 {
		low = 0
	}
	if part == whole {
		high = 1
	}
	return low, high
}

// testTraffic compares rates of traffic.
func testTraffic(a, b Count) Test {
	t := Test{Ratio: math.NaN(), Low: math.NaN(), High: math.NaN()}
	if a.Exposure <= 0 || b.Exposure <= 0 {
		return t
	}
	t.Ratio = b.Rate / a.Rate
	t.Differs = math.Abs(b.Rate-a.Rate) > trafficDiffers*max(a.Rate, b.Rate)
	return t
}
