package condition_test

import (
	"fmt"
	"time"

	"github.com/openfunction/events/pkg/condition"
)

func ExampleParse() {
	c, err := condition.Parse("order && order.data.amount > 100 && !maintenance", []string{"maintenance", "order", "refund"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.Inputs())
	fmt.Print(c.Explain())

	_, err = condition.Parse("order && shipment", []string{"order", "refund"})
	fmt.Println(err)
	// Output:
	// [maintenance order]
	// maintenance never fires: it stands only under a !. Its latest event is held for the window, since it matters to order.
	// order fires if the condition is true when it arrives, which depends on maintenance.
	// A comparison is false while its field is missing, has another type, or its input has not arrived.
	// column 10: unknown input "shipment" (inputs are order, refund)
}

func ExampleWindow() {
	c, err := condition.Parse("paid && packed", []string{"paid", "packed"})
	if err != nil {
		fmt.Println(err)
		return
	}
	w := condition.NewWindow(c, condition.WindowOptions{Window: time.Minute})
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for i, input := range []string{"paid", "packed", "packed"} {
		r := w.Arrive(condition.Arrival{Inputs: c.Mask(input), Stored: noon.Add(time.Duration(i) * time.Second)})
		fmt.Println(input, "fires", len(r.Fired), "and releases", len(r.Released))
	}
	// Output:
	// paid fires 0 and releases 0
	// packed fires 1 and releases 2
	// packed fires 0 and releases 0
}
