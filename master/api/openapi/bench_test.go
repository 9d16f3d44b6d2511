package openapi

import "testing"

// BenchmarkBuild is what the first client pays, in time and in memory that is free again afterwards.
func BenchmarkBuild(b *testing.B) {
	for _, w := range []want{{"v2", formJSON}, {"v2", formProto2}, {"v3", formJSON}, {"v3/api/v1", formProto3}} {
		b.Run(w.path+" "+string(w.form[len("application/"):]), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				o := served()
				if _, err := o.Find(w.path, string(w.form)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
