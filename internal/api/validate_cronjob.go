package api

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	_ "time/tzdata" // a time zone means the same on every peer, whatever is installed there

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateCronJob(c *batchv1.CronJob) field.ErrorList {
	errs := validateCronJobSpec(&c.Spec, nil, field.NewPath("spec"))
	// The jobs' names have a dash and ten digits more.
	if len(c.Name) > validation.DNS1035LabelMaxLength-11 {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), c.Name, "must be no more than 52 characters"))
	}
	return errs
}

func validateCronJobUpdate(updated, old *batchv1.CronJob) field.ErrorList {
	return validateCronJobSpec(&updated.Spec, &old.Spec, field.NewPath("spec"))
}

// validateCronJobSpec checks now; was is the stored spec, nil when there is none.
func validateCronJobSpec(now, was *batchv1.CronJobSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if now.Schedule == "" {
		errs = append(errs, field.Required(at.Child("schedule"), ""))
	} else {
		errs = append(errs, validateSchedule(now, was != nil && strings.Contains(was.Schedule, "TZ"), at.Child("schedule"))...)
	}
	errs = append(errs, optionalNotNegative(now.StartingDeadlineSeconds, at.Child("startingDeadlineSeconds"))...)
	if now.TimeZone != nil && (was == nil || !isSame(was.TimeZone, now.TimeZone)) {
		errs = append(errs, validateTimeZone(*now.TimeZone, at.Child("timeZone"))...)
	}
	errs = append(errs, oneOf(now.ConcurrencyPolicy, at.Child("concurrencyPolicy"), batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent)...)
	job, template := &now.JobTemplate.Spec, at.Child("jobTemplate", "spec")
	errs = append(errs, validateJobSpec(job, template)...)
	if job.Selector != nil {
		errs = append(errs, field.Invalid(template.Child("selector"), job.Selector, "`selector` will be auto-generated"))
	}
	if isSet(job.ManualSelector) {
		errs = append(errs, field.NotSupported(template.Child("manualSelector"), *job.ManualSelector, []string{"nil", "false"}))
	}
	errs = append(errs, optionalNotNegative(now.SuccessfulJobsHistoryLimit, at.Child("successfulJobsHistoryLimit"))...)
	return append(errs, optionalNotNegative(now.FailedJobsHistoryLimit, at.Child("failedJobsHistoryLimit"))...)
}

// validateSchedule: a time zone belongs in its field; inSchedule is set for those that had it in the schedule before.
func validateSchedule(s *batchv1.CronJobSpec, inSchedule bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if _, err := ParseSchedule(s.Schedule); err != nil {
		errs = append(errs, field.Invalid(at, s.Schedule, err.Error()))
	}
	if strings.Contains(s.Schedule, "TZ") {
		switch {
		case !inSchedule:
			errs = append(errs, field.Invalid(at, s.Schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"))
		case s.TimeZone != nil:
			errs = append(errs, field.Invalid(at, s.Schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule"))
		}
	}
	return errs
}

// ParseSchedule reads the schedule of a CronJob: five fields or a word like @daily. The schedule it returns is safe for
// concurrent use and counts in the time zone of the time it is given, unless the text names one.
func ParseSchedule(text string) (schedule cron.Schedule, err error) {
	defer func() {
		// The parser cuts a time zone off without looking whether anything follows.
		if r := recover(); r != nil {
			schedule, err = nil, fmt.Errorf("invalid schedule format: %v", r)
		}
	}()
	return cron.ParseStandard(text)
}

// zonePart is what may stand between the slashes of a time zone's name, which is part of a file's name.
var zonePart = regexp.MustCompile(`^[A-Za-z._0-9+][A-Za-z._0-9+-]{0,13}$`)

func validateTimeZone(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Invalid(at, name, "timeZone must be nil or non-empty string")}
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "." || part == ".." || !zonePart.MatchString(part) {
			return field.ErrorList{field.Invalid(at, name, "unknown time zone "+name)}
		}
	}
	var errs field.ErrorList
	if strings.EqualFold(name, "Local") {
		errs = append(errs, field.Invalid(at, name, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"))
	}
	if _, err := time.LoadLocation(name); err != nil {
		errs = append(errs, field.Invalid(at, name, err.Error()))
	}
	return errs
}
