package keeper

import (
	"fmt"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// BenchmarkToggle measures one On or Off until it is on the disk. Every change encodes, compiles
// and stores the whole state, so the cost grows with the number of apps and the length of their
// allowlists. The metric bytes is the size of the state as JSON.
func BenchmarkToggle(b *testing.B) {
	for _, size := range []struct{ apps, ips int }{{1, 0}, {100, 0}, {1000, 10}, {1000, 200}} {
		b.Run(fmt.Sprintf("apps=%d/ips=%d", size.apps, size.ips), func(b *testing.B) {
			k, stop := open(b, b.TempDir())
			defer stop()

			if _, _, err := k.PutAll(b.Context(), alice, Always, manySpecs(size.apps, size.ips), changeNow); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(len(k.Current().Document)), "bytes")

			turnOn := true
			for b.Loop() {
				var err error
				if turnOn {
					_, err = k.On(b.Context(), alice, Always, "app-0", ManualActivation{Mode: maintenance.NoAccess})
				} else {
					_, err = k.Off(b.Context(), alice, Always, "app-0")
				}
				if err != nil {
					b.Fatal(err)
				}
				turnOn = !turnOn
			}
		})
	}
}

// manySpecs returns as many specs as apps says, each with as many addresses in its allowlist as ips
// says.
func manySpecs(apps, ips int) []maintenance.Spec {
	specs := make([]maintenance.Spec, apps)
	for i := range specs {
		specs[i] = maintenance.Spec{
			Name:  fmt.Sprintf("app-%d", i),
			Match: maintenance.Match{Hosts: []string{fmt.Sprintf("app-%d.example.com", i)}},
		}

		for j := range ips {
			specs[i].Bypass.IPs = append(specs[i].Bypass.IPs, fmt.Sprintf("10.%d.%d.%d", i%256, j/256, j%256))
		}
	}
	return specs
}
