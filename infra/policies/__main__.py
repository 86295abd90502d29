"""The policy pack: `pulumi up --stack kind --policy-pack infra/policies` (docs/kubernetes.md)."""

from pulumi_policy import (
    EnforcementLevel,
    PolicyPack,
    PolicyResource,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)
from rules import EACH, WHOLE, Resource


def _each(name, rule):
    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        provider = args.provider.name if args.provider else ""
        for problem in rule(Resource(args.resource_type, args.name, provider, args.props)):
            report(problem, args.urn)

    return ResourceValidationPolicy(name=name, description=rule.__doc__, validate=validate)


def _whole(name, rule):
    def seen(one: PolicyResource) -> Resource:
        return Resource(one.resource_type, one.name, one.provider.name if one.provider else "", one.props)

    def validate(args: StackValidationArgs, report: ReportViolation) -> None:
        for problem in rule([seen(one) for one in args.resources]):
            report(problem)

    return StackValidationPolicy(name=name, description=rule.__doc__, validate=validate)


PolicyPack(
    name="holdfast",
    enforcement_level=EnforcementLevel.MANDATORY,
    policies=[
        *(_each(name, rule) for name, rule in EACH.items()),
        *(_whole(name, rule) for name, rule in WHOLE.items()),
    ],
)
