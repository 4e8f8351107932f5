// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {Council} from "../src/Council.sol";
import {ICouncil} from "../src/interfaces/ICouncil.sol";
import {ILedgerAnchor} from "../src/interfaces/ILedgerAnchor.sol";
import {LedgerAnchor} from "../src/LedgerAnchor.sol";
import {Names} from "../src/Names.sol";
import {Records, Signature} from "../src/Records.sol";
import {City} from "./City.sol";
import {vm} from "./Vm.sol";

contract CouncilTest is City {
    uint256 internal constant HIGH = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    function setUp() public override {
        super.setUp();
        enactContract("treasury", address(treasury));
        enactAsset("TKZT", address(token));
        enactAccount("builder", "TKZT", Names.PAYEE, builder);
    }

    // --- approvals ---

    function test_two_of_five_are_too_few_and_three_are_enough() external {
        (bytes memory record, uint64 index) = _share("code", 1);
        Signature[] memory all = councillors(record);
        Signature[] memory two = new Signature[](2);
        (two[0], two[1]) = (all[0], all[1]);
        _refused(record, index, two, abi.encodeWithSelector(ICouncil.NoQuorum.selector, Names.COUNCIL, 3, 2));
        bring(record, index);
        same(council.minShare("code"), 1);
    }

    function test_nobody_counts_twice_and_nobody_else_counts() external {
        (bytes memory record, uint64 index) = _share("code", 1);
        Signature[] memory twice = approve(keys3(1, 2, 2), Records.APPROVE_REVENUE_RULE, record, FOREVER);
        address second = vm.addr(2);
        vm.expectRevert();
        this.enactWith(record, index, twice);
        twice = approve(keys3(2, 2, 2), Records.APPROVE_REVENUE_RULE, record, FOREVER);
        _refused(record, index, twice, abi.encodeWithSelector(ICouncil.SignersNotAscending.selector, second, second));
        Signature[] memory stranger = approve(keys3(1, 2, AUTHORITY), Records.APPROVE_REVENUE_RULE, record, FOREVER);
        _refused(
            record,
            index,
            stranger,
            abi.encodeWithSelector(ICouncil.NotSeated.selector, Names.COUNCIL, vm.addr(AUTHORITY))
        );
    }

    function test_an_approval_ends_with_its_last_second() external {
        (bytes memory record, uint64 index) = _share("code", 1);
        Signature[] memory approvals = approve(keys3(1, 2, 3), Records.APPROVE_REVENUE_RULE, record, START + 10);
        vm.warp(START + 11);
        _refused(
            record, index, approvals, abi.encodeWithSelector(ICouncil.SignatureExpired.selector, START + 10, START + 11)
        );
        vm.warp(START + 10);
        this.enactWith(record, index, approvals);
    }

    function test_leak_24_an_approval_is_of_this_kind_this_record_this_chain_and_this_ledger() external {
        (bytes memory record, uint64 index) = _share("code", 1);
        Signature[] memory approvals = approve(keys3(1, 2, 3), Records.APPROVE_PROJECT, record, FOREVER);
        _refusedAnyhow(record, index, approvals);
        approvals = approve(keys3(1, 2, 3), Records.APPROVE_REVENUE_RULE, abi.encode("another"), FOREVER);
        _refusedAnyhow(record, index, approvals);
        approvals = councillors(record);
        vm.chainId(1);
        _refusedAnyhow(record, index, approvals);
        vm.chainId(31_337);
        this.enactWith(record, index, approvals);
    }

    /// @dev The same seats of two cities: what they signed for one counts in no other, not even by its own council.
    function test_leak_24_an_approval_is_of_one_ledger_and_of_one_council_of_it() external {
        (bytes memory record, uint64 index) = _share("code", 1);
        Council here = council;
        Council[2] memory others = [
            new Council(keccak256("another ledger"), RETENTION_END, foundingSeats(), foundingQuorums()),
            new Council(LEDGER, RETENTION_END, foundingSeats(), foundingQuorums())
        ];
        for (uint256 i = 0; i < others.length; ++i) {
            council = others[i];
            Signature[] memory elsewhere = councillors(record);
            bytes32 domain = council.domainSeparator();
            council = here;
            isTrue(domain != council.domainSeparator());
            _refusedAnyhow(record, index, elsewhere);
        }
        bring(record, index);
        // Of the first other the place differs as well; that the ledger alone would do is seen in what is signed.
        bytes32 kind = keccak256(
            "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)"
        );
        bytes32 ledger = keccak256("another ledger");
        same(
            others[0].domainSeparator(),
            keccak256(abi.encode(kind, keccak256("Qazyna"), keccak256("1"), block.chainid, address(others[0]), ledger))
        );
    }

    function test_a_council_rotates_itself_and_then_the_new_seats_alone_decide() external {
        uint64 turn = START + 20 days;
        for (uint256 key = 21; key <= 25; ++key) {
            _enactSeat(Names.COUNCIL, key, turn, FOREVER);
        }
        for (uint256 key = 1; key <= 5; ++key) {
            _end(key, turn);
        }
        (bytes memory record, uint64 index) = _share("code", 1);
        Signature[] memory old = councillors(record);
        Signature[] memory new_ = approve(keys3(21, 22, 23), Records.APPROVE_REVENUE_RULE, record, FOREVER);
        vm.warp(turn - 1);
        _refused(
            record, index, new_, abi.encodeWithSelector(ICouncil.NotSeated.selector, Names.COUNCIL, new_[0].signer)
        );
        vm.warp(turn);
        isTrue(!council.isRecovering());
        same(council.required(Names.COUNCIL), 3);
        _refused(
            record, index, old, abi.encodeWithSelector(ICouncil.NotSeated.selector, Names.COUNCIL, old[0].signer)
        );
        // Nor do two of the new with one of the old.
        Signature[] memory mixed = approve(keys3(21, 22, 1), Records.APPROVE_REVENUE_RULE, record, FOREVER);
        _refused(
            record, index, mixed, abi.encodeWithSelector(ICouncil.NotSeated.selector, Names.COUNCIL, vm.addr(1))
        );
        bring(record, index, new_);
        same(council.minShare("code"), 1);
    }

    function test_the_twin_of_a_signature_is_refused() external {
        (bytes memory record, uint64 index) = _share("code", 1);
        Signature[] memory approvals = councillors(record);
        bytes32 high = bytes32(HIGH - uint256(approvals[0].s));
        (approvals[0].s, approvals[0].v) = (high, 55 - approvals[0].v);
        _refused(record, index, approvals, abi.encodeWithSelector(ECDSA.ECDSAInvalidSignatureS.selector, high));
        approvals = councillors(record);
        approvals[0].v -= 27;
        _refused(record, index, approvals, abi.encodeWithSelector(ECDSA.ECDSAInvalidSignature.selector));
    }

    function test_an_expired_seat_signs_nothing() external {
        _enactSeat(Names.COUNCIL, 3, START, START + 20 days);
        (bytes memory record, uint64 index) = _share("code", 1);
        vm.warp(START + 20 days - 1);
        isTrue(council.seated(Names.COUNCIL, vm.addr(3)));
        vm.warp(START + 20 days);
        _refused(
            record,
            index,
            councillors(record),
            abi.encodeWithSelector(ICouncil.NotSeated.selector, Names.COUNCIL, vm.addr(3))
        );
        this.enactWith(record, index, approve(keys3(1, 2, 4), Records.APPROVE_REVENUE_RULE, record, FOREVER));
    }

    function test_the_floor_is_a_majority_of_those_seated() external {
        same(council.required(Names.COUNCIL), 3);
        _enactSeat(Names.COUNCIL, 21, START, FOREVER);
        vm.warp(START + 14 days);
        same(council.required(Names.COUNCIL), 4);
        (bytes memory record, uint64 index) = _share("code", 1);
        _refused(
            record, index, councillors(record), abi.encodeWithSelector(ICouncil.NoQuorum.selector, Names.COUNCIL, 4, 3)
        );
        vm.warp(FOREVER);
        same(council.required(Names.COUNCIL), 3);
    }

    // --- seats, quorums, parameters ---

    function test_a_seat_a_quorum_and_a_parameter_wait_fourteen_days() external {
        address newcomer = vm.addr(31);
        _enactSeat(Names.AUDITOR, 31, START, FOREVER);
        enact(abi.encode(Records.QUORUM, Records.Quorum(START, Names.AUTHORITY, 2, ACT)));
        enactParameter(Names.ORDER_DELAY, 3 days);
        vm.warp(START + 14 days - 1);
        isTrue(!council.seated(Names.AUDITOR, newcomer));
        same(council.required(Names.AUTHORITY), 1);
        same(council.parameter(Names.ORDER_DELAY), 1 days);
        vm.warp(START + 14 days);
        isTrue(council.seated(Names.AUDITOR, newcomer));
        same(council.required(Names.AUTHORITY), 2);
        same(council.parameter(Names.ORDER_DELAY), 3 days);
    }

    function test_a_later_act_supersedes_from_its_own_day_on() external {
        enact(abi.encode(Records.PARAMETER, Records.Parameter(START, Names.ORDER_DELAY, 5 days, START + 30 days, ACT)));
        enact(abi.encode(Records.PARAMETER, Records.Parameter(START, Names.ORDER_DELAY, 2 days, START, ACT)));
        vm.warp(START + 14 days);
        same(council.parameter(Names.ORDER_DELAY), 2 days);
        vm.warp(START + 30 days);
        same(council.parameter(Names.ORDER_DELAY), 2 days);
    }

    function test_a_new_term_takes_the_place_of_the_old_one() external {
        _enactSeat(Names.AUDITOR, AUDITOR, START + 20 days, START + 21 days);
        vm.warp(START + 20 days - 1);
        isTrue(council.seated(Names.AUDITOR, vm.addr(AUDITOR)));
        vm.warp(START + 21 days);
        isTrue(!council.seated(Names.AUDITOR, vm.addr(AUDITOR)));
    }

    function test_seats_that_break_a_rule_are_refused() external {
        _seatRefused(
            _seatFor(Names.AUDITOR, 1),
            abi.encodeWithSelector(ICouncil.OneHolderOneRole.selector, vm.addr(1), Names.COUNCIL, Names.AUDITOR)
        );
        _seatRefused(_seatFor("mayor", 40), abi.encodeWithSelector(ICouncil.UnknownRole.selector, bytes32("mayor")));
        Records.Seat memory record = _seatFor(Names.AUDITOR, 40);
        record.holder = address(0);
        _seatRefused(record, abi.encodeWithSelector(ICouncil.HolderIsZero.selector, Names.AUDITOR));
        record.holder = builder;
        _seatRefused(record, abi.encodeWithSelector(ICouncil.HolderIsPayeeOrContract.selector, builder));
        record.holder = address(treasury);
        _seatRefused(record, abi.encodeWithSelector(ICouncil.HolderIsPayeeOrContract.selector, address(treasury)));
        record = _seatFor(Names.AUDITOR, 40);
        record.validTo = record.validFrom;
        _seatRefused(record, abi.encodeWithSelector(ICouncil.TermEndsFirst.selector, START, START));
    }

    function test_leak_15_parameters_stay_inside_their_bounds() external {
        _parameterRefused(
            Names.ORDER_DELAY,
            1 days - 1,
            abi.encodeWithSelector(ICouncil.OutOfBounds.selector, Names.ORDER_DELAY, 1 days, 30 days, 1 days - 1)
        );
        _parameterRefused(
            Names.ORDER_DELAY,
            30 days + 1,
            abi.encodeWithSelector(ICouncil.OutOfBounds.selector, Names.ORDER_DELAY, 1 days, 30 days, 30 days + 1)
        );
        _parameterRefused(
            Names.DIRECT_SETTLEMENT,
            2,
            abi.encodeWithSelector(ICouncil.OutOfBounds.selector, Names.DIRECT_SETTLEMENT, 0, 1, 2)
        );
        _parameterRefused("mood", 1, abi.encodeWithSelector(ICouncil.UnknownParameter.selector, bytes32("mood")));
        vm.expectRevert(abi.encodeWithSelector(ICouncil.UnknownParameter.selector, bytes32("mood")));
        council.parameter("mood");
    }

    function test_a_quorum_of_the_council_is_three_at_least() external {
        enactRefused(
            abi.encode(Records.QUORUM, Records.Quorum(START, Names.COUNCIL, 6, ACT)),
            abi.encodeWithSelector(ICouncil.QuorumUnreachable.selector, 5, 6)
        );
        enactRefused(
            abi.encode(Records.QUORUM, Records.Quorum(START, Names.COUNCIL, 2, ACT)),
            abi.encodeWithSelector(ICouncil.QuorumTooSmall.selector, Names.COUNCIL, 3, 2)
        );
        enactRefused(
            abi.encode(Records.QUORUM, Records.Quorum(START, Names.AUTHORITY, 0, ACT)),
            abi.encodeWithSelector(ICouncil.QuorumTooSmall.selector, Names.AUTHORITY, 1, 0)
        );
    }

    // --- order and shape ---

    function test_the_same_act_counts_once_even_if_recorded_again() external {
        (bytes memory record, uint64 index) = _share("code", 1);
        bring(record, index);
        uint64 again = add(record);
        publish();
        _refused(
            record,
            again,
            councillors(record),
            abi.encodeWithSelector(ICouncil.AlreadyEnacted.selector, keccak256(record))
        );
    }

    function test_leak_25_acts_on_one_object_come_in_the_order_of_the_ledger() external {
        (bytes memory first, uint64 early) = _share("code", 1);
        (bytes memory second, uint64 late) = _share("code", 2);
        bring(second, late);
        _refused(first, early, councillors(first), abi.encodeWithSelector(ICouncil.OutOfOrder.selector, late, early));
        (bytes memory other, uint64 index) = _share("other", 3);
        bring(other, index);
    }

    function test_an_act_that_the_ledger_does_not_have_is_refused() external {
        (, uint64 index) = _share("code", 1);
        bytes memory record =
            abi.encode(Records.REVENUE_RULE, Records.RevenueRule(START, "code", Names.RETAINED, 2, START, ACT));
        uint64 size = anchor.head().size;
        _refused(
            record, index, councillors(record), abi.encodeWithSelector(ILedgerAnchor.NotIncluded.selector, index, size)
        );
    }

    function test_leak_06_a_payee_becomes_no_contract_and_no_seat_and_a_seat_no_contract() external {
        enactAccount("token-payee", "TKZT", Names.PAYEE, address(token));
        Records.Contract memory place =
            Records.Contract(START, "x", block.chainid, address(token), address(token).codehash, ACT);
        bytes memory refusal = abi.encodeWithSelector(ICouncil.ContractIsPayeeOrSeat.selector, address(token));
        enactRefused(abi.encode(Records.CONTRACT, place), refusal);
        Records.Seat memory record = _seatFor(Names.AUDITOR, 40);
        record.holder = place.at = address(router);
        place.codeHash = address(router).codehash;
        enact(abi.encode(Records.SEAT, record));
        refusal = abi.encodeWithSelector(ICouncil.ContractIsPayeeOrSeat.selector, address(router));
        enactRefused(abi.encode(Records.CONTRACT, place), refusal);
    }

    function test_the_council_and_its_anchor_are_contracts_of_the_city_from_the_start() external {
        isTrue(council.isContract(address(council)) && council.isContract(address(anchor)));
        _accountRefused(
            account("a", "TKZT", Names.PAYEE, address(council)),
            abi.encodeWithSelector(ICouncil.OwnerIsContract.selector, address(council))
        );
    }

    function test_leak_07_the_republic_does_not_turn_into_a_payee() external {
        enactAccount("republic", "TKZT", Names.REPUBLIC, republic);
        isTrue(council.isRepublic(republic) && !council.isRepublic(builder));
        _accountRefused(
            account("a", "TKZT", Names.PAYEE, republic),
            abi.encodeWithSelector(ICouncil.OwnerIsRepublic.selector, republic)
        );
        enactAccount("unmasked", "TKZT", Names.REPUBLIC, builder);
        isTrue(council.isRepublic(builder));
    }

    function test_a_name_is_given_once() external {
        bytes memory record = abi.encode(Records.ACCOUNT, account("builder", "TKZT", Names.PAYEE, vm.addr(77)));
        enactRefused(record, abi.encodeWithSelector(ICouncil.NameTaken.selector, bytes32("builder")));
    }

    function test_only_whole_canonical_acts_are_taken() external {
        Records.RevenueRule memory rule = Records.RevenueRule(START, "code", Names.RETAINED, 1, START, ACT);
        bytes memory record = abi.encode(Records.REVENUE_RULE, rule);
        _shapeRefused(bytes.concat(record, bytes32(0)), abi.encodeWithSelector(ICouncil.WrongLength.selector, 224, 256));
        _shapeRefused("", abi.encodeWithSelector(ICouncil.WrongLength.selector, 32, 0));
        _shapeRefused(
            abi.encode(Records.COMMITMENT, rule),
            abi.encodeWithSelector(ICouncil.UnknownKind.selector, Records.COMMITMENT)
        );
        rule.act = 0;
        record = abi.encode(Records.REVENUE_RULE, rule);
        _shapeRefused(record, abi.encodeWithSelector(ICouncil.ActMissing.selector, keccak256(record)));
        rule = Records.RevenueRule(START, "two words", Names.RETAINED, 1, START, ACT);
        enactRefused(
            abi.encode(Records.REVENUE_RULE, rule),
            abi.encodeWithSelector(ICouncil.NotAName.selector, bytes32("two words"))
        );
        // A share with a dirty bit above its 16.
        enactRefused(
            abi.encode(Records.REVENUE_RULE, START, bytes32("c"), Names.RETAINED, uint256(1) << 16, START, ACT), ""
        );
    }

    // --- what is registered ---

    function test_accounts_that_break_a_rule_are_refused() external {
        address seatHolder = vm.addr(AUTHORITY);
        _accountRefused(
            account("a", "XXX", Names.PAYEE, vm.addr(77)),
            abi.encodeWithSelector(ICouncil.UnknownAsset.selector, bytes32("XXX"))
        );
        _accountRefused(
            account("a", "TKZT", "bank", vm.addr(77)),
            abi.encodeWithSelector(ICouncil.KindNotOnChain.selector, bytes32("bank"))
        );
        _accountRefused(
            account("a", "TKZT", Names.PAYEE, seatHolder),
            abi.encodeWithSelector(ICouncil.OwnerHoldsSeat.selector, seatHolder, Names.AUTHORITY)
        );
        _accountRefused(
            account("a", "TKZT", Names.REPUBLIC, address(treasury)),
            abi.encodeWithSelector(ICouncil.OwnerIsContract.selector, address(treasury))
        );
        _accountRefused(
            account("a", "TKZT", Names.PAYEE, address(0)),
            abi.encodeWithSelector(ICouncil.OwnerNotAnAddress.selector, bytes32(0))
        );
        _accountRefused(
            account("a", "TKZT", Names.CHAIN, builder),
            abi.encodeWithSelector(
                ICouncil.NotTheTreasury.selector, address(treasury), bytes32(uint256(uint160(builder)))
            )
        );
        Records.Account memory record = account("a", "TKZT", Names.PAYEE, vm.addr(77));
        record.party = 0;
        _accountRefused(record, abi.encodeWithSelector(ICouncil.PartyMissing.selector, bytes32("a")));
        record = account("a", "TKZT", Names.PAYEE, vm.addr(77));
        record.fund = "purse";
        _accountRefused(record, abi.encodeWithSelector(ICouncil.UnknownFund.selector, bytes32("purse")));
        record = account("a", "TKZT", Names.CHAIN, address(treasury));
        record.fund = "CUSTODY";
        _accountRefused(record, abi.encodeWithSelector(ICouncil.FundNotRetained.selector, bytes32("CUSTODY")));
        record = account("a", "TKZT", Names.PAYEE, vm.addr(77));
        record.owner = keccak256("iban");
        _accountRefused(record, abi.encodeWithSelector(ICouncil.OwnerNotAnAddress.selector, keccak256("iban")));
    }

    function test_leak_18_assets_and_contracts_are_of_this_chain_and_have_their_code() external {
        Records.Asset memory asset = Records.Asset(START, "B", 6, 1, vm.addr(5), START, FOREVER, ACT);
        enactRefused(
            abi.encode(Records.ASSET, asset), abi.encodeWithSelector(ICouncil.WrongChain.selector, block.chainid, 1)
        );
        asset.chainId = block.chainid;
        asset.validTo = START;
        enactRefused(
            abi.encode(Records.ASSET, asset), abi.encodeWithSelector(ICouncil.TermEndsFirst.selector, START, START)
        );
        asset.validTo = FOREVER;
        asset.token = address(0);
        enactRefused(
            abi.encode(Records.ASSET, asset), abi.encodeWithSelector(ICouncil.TokenMissing.selector, bytes32("B"))
        );
        asset.token = address(token);
        enactRefused(
            abi.encode(Records.ASSET, asset),
            abi.encodeWithSelector(ICouncil.TokenTaken.selector, address(token), bytes32("TKZT"))
        );
        Records.Contract memory place = Records.Contract(START, "x", 1, address(router), address(router).codehash, ACT);
        enactRefused(
            abi.encode(Records.CONTRACT, place), abi.encodeWithSelector(ICouncil.WrongChain.selector, block.chainid, 1)
        );
        place.chainId = block.chainid;
        place.codeHash = ACT;
        enactRefused(
            abi.encode(Records.CONTRACT, place),
            abi.encodeWithSelector(ICouncil.CodeDiffers.selector, ACT, address(router).codehash)
        );
        place.at = vm.addr(123);
        place.codeHash = place.at.codehash;
        enactRefused(
            abi.encode(Records.CONTRACT, place),
            abi.encodeWithSelector(ICouncil.CodeDiffers.selector, place.codeHash, 0)
        );
    }

    function test_shares_have_a_rule_in_force_a_fund_and_a_most() external {
        Records.RevenueRule memory rule = Records.RevenueRule(START, "code", Names.RETAINED, 10_001, START, ACT);
        enactRefused(
            abi.encode(Records.REVENUE_RULE, rule),
            abi.encodeWithSelector(ICouncil.ShareTooLarge.selector, 10_000, 10_001)
        );
        rule.fund = "CUSTODY";
        rule.minShare = 1;
        enactRefused(
            abi.encode(Records.REVENUE_RULE, rule),
            abi.encodeWithSelector(ICouncil.UnknownFund.selector, bytes32("CUSTODY"))
        );
        rule.fund = Names.RETAINED;
        rule.minShare = 500;
        rule.validFrom = START + 5 days;
        enact(abi.encode(Records.REVENUE_RULE, rule));
        vm.expectRevert(abi.encodeWithSelector(ICouncil.UnknownCode.selector, bytes32("code")));
        council.minShare("code");
        vm.warp(START + 5 days);
        same(council.minShare("code"), 500);
        // A first rule is in force at once, a later one after its notice.
        rule.fund = "MUNICIPAL";
        enact(abi.encode(Records.REVENUE_RULE, rule));
        vm.warp(START + 19 days - 1);
        same(council.minShare("code"), 500);
        vm.warp(START + 19 days);
        vm.expectRevert(abi.encodeWithSelector(ICouncil.FundNotRetained.selector, bytes32("MUNICIPAL")));
        council.minShare("code");
    }

    function test_money_of_the_city_is_allotted_to_infrastructure_in_alatau() external {
        Records.Project memory project = Records.Project(START, "p", "roads", "astana", 1, ACT);
        enactRefused(
            abi.encode(Records.PROJECT, project),
            abi.encodeWithSelector(ICouncil.PlaceNotInAlatau.selector, bytes32("astana"))
        );
        project.place = "alatau-green";
        project.sector = "palaces";
        enactRefused(
            abi.encode(Records.PROJECT, project),
            abi.encodeWithSelector(ICouncil.UnknownSector.selector, bytes32("palaces"))
        );
        project.limit = 0;
        bytes memory record = abi.encode(Records.PROJECT, project);
        enact(record);
        Records.Allocation memory allocation =
            Records.Allocation(START, "a", "b", keccak256(record), "TKZT", 1, ACT, ACT);
        enactRefused(
            abi.encode(Records.ALLOCATION, allocation),
            abi.encodeWithSelector(ICouncil.SectorNotInfrastructure.selector, bytes32("palaces"))
        );
        allocation.projectHash = ACT;
        enactRefused(
            abi.encode(Records.ALLOCATION, allocation), abi.encodeWithSelector(ICouncil.UnknownProject.selector, ACT)
        );
        project.sector = "roads";
        project.project = "q";
        record = abi.encode(Records.PROJECT, project);
        enact(record);
        allocation.projectHash = keccak256(record);
        allocation.amount = 0;
        enactRefused(
            abi.encode(Records.ALLOCATION, allocation),
            abi.encodeWithSelector(ICouncil.AmountIsZero.selector, bytes32("a"))
        );
        allocation.amount = 1;
        allocation.asset = "XXX";
        enactRefused(
            abi.encode(Records.ALLOCATION, allocation),
            abi.encodeWithSelector(ICouncil.UnknownAsset.selector, bytes32("XXX"))
        );
        allocation.asset = "TKZT";
        record = abi.encode(Records.ALLOCATION, allocation);
        enact(record);
        same(council.allocation(keccak256(record)).amount, 1);
    }

    function test_a_council_is_founded_by_three_at_least() external {
        Records.Seat[] memory seats = new Records.Seat[](2);
        (seats[0], seats[1]) = (seat(Names.COUNCIL, 1), seat(Names.COUNCIL, 2));
        vm.expectRevert(abi.encodeWithSelector(ICouncil.NoQuorum.selector, Names.COUNCIL, 3, 2));
        new Council(LEDGER, RETENTION_END, seats, new Records.Quorum[](0));
    }

    function test_of_three_councillors_all_three_must_sign_and_a_role_is_one_of_ten() external {
        Records.Seat[] memory seats = new Records.Seat[](3);
        for (uint256 key = 1; key <= 3; ++key) {
            seats[key - 1] = seat(Names.COUNCIL, key);
        }
        Council small = new Council(LEDGER, RETENTION_END, seats, new Records.Quorum[](0));
        same(small.required(Names.COUNCIL), 3);
        same(small.required(Names.AUDITOR), 1);
        enactRefused(
            abi.encode(Records.QUORUM, Records.Quorum(START, "friend", 1, ACT)),
            abi.encodeWithSelector(ICouncil.UnknownRole.selector, bytes32("friend"))
        );
    }

    function test_each_parameter_has_its_bounds() external {
        bytes32[13] memory names = [
            bytes32("direct_settlement"),
            "self_sufficient",
            "anchor_gap",
            "order_delay",
            "payee_wait",
            "commitment_day_cap",
            "rate_band",
            "rate_age",
            "exchange_band",
            "exchange_loss",
            "provider_cap",
            "refund_cap",
            "block_budget_until"
        ];
        for (uint256 i = 0; i < names.length; ++i) {
            (uint128 least, uint128 most, uint128 unset) = Names.bounds(names[i]);
            same(council.parameter(names[i]), unset);
            isTrue(least <= unset && unset <= most);
            _parameterRefused(
                names[i],
                most + 1,
                abi.encodeWithSelector(ICouncil.OutOfBounds.selector, names[i], least, most, most + 1)
            );
        }
        vm.expectRevert(abi.encodeWithSelector(ICouncil.UnknownParameter.selector, bytes32("mood")));
        council.parameter("mood");
    }

    // --- a signature taken back (LEAKS 24) ---

    function test_leak_24_a_signature_that_its_signer_took_back_counts_no_more() external {
        (bytes memory record, uint64 index) = _share("code", 1);
        Signature[] memory approvals = councillors(record);
        vm.prank(vm.addr(2));
        council.withdraw(keccak256(record));
        isTrue(council.isWithdrawn(keccak256(record), vm.addr(2)));
        _refused(
            record,
            index,
            approvals,
            abi.encodeWithSelector(ICouncil.SignatureWithdrawn.selector, keccak256(record), vm.addr(2))
        );
        approvals = approve(keys3(1, 3, 4), Records.APPROVE_REVENUE_RULE, record, FOREVER);
        bring(record, index, approvals);
        same(council.minShare("code"), 1);
        vm.prank(vm.addr(1));
        vm.expectRevert(abi.encodeWithSelector(ICouncil.AlreadyEnacted.selector, keccak256(record)));
        council.withdraw(keccak256(record));
    }

    function test_leak_24_the_ledgers_withdrawal_counts_whoever_brings_it() external {
        (bytes memory record, uint64 index) = _share("code", 1);
        bytes32 hash = keccak256(record);
        Signature memory back = sign(2, keccak256(abi.encode(keccak256("Withdraw(bytes32 approves)"), hash)), 0);
        vm.expectRevert(abi.encodeWithSelector(ICouncil.WrongSigner.selector, vm.addr(3), vm.addr(2)));
        council.withdraw(hash, vm.addr(3), back.v, back.r, back.s);
        council.withdraw(hash, vm.addr(2), back.v, back.r, back.s);
        _refused(
            record,
            index,
            councillors(record),
            abi.encodeWithSelector(ICouncil.SignatureWithdrawn.selector, hash, vm.addr(2))
        );
        vm.prank(vm.addr(STRANGER));
        vm.expectRevert(abi.encodeWithSelector(ICouncil.NotSeated.selector, bytes32(0), vm.addr(STRANGER)));
        council.withdraw(hash);
    }

    // --- when too few are seated (LEAKS 14) ---

    function test_leak_14_those_whose_terms_are_over_fill_the_seats_after_180_days_and_do_nothing_else() external {
        _endTerms(START + 100 days);
        isTrue(council.isRecovering());
        (bytes memory other, uint64 at) = _share("code", 1);
        _refused(
            other,
            at,
            councillors(other),
            abi.encodeWithSelector(ICouncil.NotSeated.selector, Names.COUNCIL, councillors(other)[0].signer)
        );
        uint256 now_ = block.timestamp;
        for (uint256 key = 21; key <= 23; ++key) {
            enact(abi.encode(Records.SEAT, seat(Names.COUNCIL, key)));
        }
        vm.warp(now_ + 180 days - 1);
        isTrue(council.isRecovering());
        // Who has only been called has not sat.
        bytes memory record = abi.encode(Records.SEAT, seat(Names.COUNCIL, 24));
        uint64 index = add(record);
        publish();
        Signature[] memory called = approve(keys3(21, 22, 23), Records.APPROVE_SEAT, record, FOREVER);
        _refused(
            record,
            index,
            called,
            abi.encodeWithSelector(ICouncil.NotSeated.selector, Names.COUNCIL, called[0].signer)
        );
        vm.warp(now_ + 180 days);
        isTrue(!council.isRecovering());
        // Now the old ones are strangers again, and the new ones act.
        _refused(
            record,
            index,
            councillors(record),
            abi.encodeWithSelector(ICouncil.NotSeated.selector, Names.COUNCIL, councillors(record)[0].signer)
        );
        bring(other, at, approve(keys3(21, 22, 23), Records.APPROVE_REVENUE_RULE, other, FOREVER));
        same(council.minShare("code"), 1);
    }

    function test_leak_14_a_recovery_takes_a_quorum_and_fills_seats_of_the_council_alone() external {
        _endTerms(START + 100 days);
        bytes memory record = abi.encode(Records.SEAT, seat(Names.GATEWAY, 31));
        enactRefused(
            record, abi.encodeWithSelector(ICouncil.NotSeated.selector, Names.COUNCIL, councillors(record)[0].signer)
        );
        record = abi.encode(Records.SEAT, seat(Names.COUNCIL, 31));
        uint64 index = add(record);
        publish();
        _refused(
            record,
            index,
            approve(keys1(1), Records.APPROVE_SEAT, record, FOREVER),
            abi.encodeWithSelector(ICouncil.NoQuorum.selector, Names.COUNCIL, 3, 1)
        );
        Signature[] memory strangers = approve(keys3(1, 2, AUTHORITY), Records.APPROVE_SEAT, record, FOREVER);
        try this.enactWith(record, index, strangers) {
            isTrue(false);
        } catch (bytes memory refusal) {
            same(bytes32(bytes4(refusal)), bytes32(ICouncil.NotSeated.selector));
        }
    }

    function test_leak_14_a_recovery_ends_nobodys_term() external {
        // Two are still there, which is too few.
        for (uint256 key = 3; key <= 5; ++key) {
            _end(key, START + 100 days);
        }
        vm.warp(START + 100 days);
        isTrue(council.isRecovering());
        Records.Seat memory short = seat(Names.COUNCIL, 1);
        short.validTo = START + 300 days;
        enactRefused(
            abi.encode(Records.SEAT, short),
            abi.encodeWithSelector(ICouncil.RecoveryEndsTerm.selector, FOREVER, START + 300 days)
        );
    }

    // --- how long an answer holds ---

    function test_an_answer_holds_for_fourteen_days_or_until_what_is_known_to_come() external {
        same(council.seatedUntil(Names.GATEWAY, vm.addr(GATEWAY)), block.timestamp + 14 days);
        same(council.seatedUntil(Names.GATEWAY, vm.addr(OPERATOR)), 0);
        same(council.seatedUntil(0, vm.addr(STRANGER)), 0);
        vm.warp(FOREVER - 5);
        same(council.seatedUntil(Names.GATEWAY, vm.addr(GATEWAY)), FOREVER);
        vm.warp(FOREVER);
        same(council.seatedUntil(Names.GATEWAY, vm.addr(GATEWAY)), 0);
    }

    function test_a_parameter_and_a_share_hold_until_the_next_of_them_begins() external {
        uint64 now_ = uint64(block.timestamp);
        (uint256 value, uint64 until) = council.parameterUntil(Names.DIRECT_SETTLEMENT);
        same(value, 0);
        same(until, now_ + 14 days);
        enactParameter(Names.DIRECT_SETTLEMENT, 1);
        vm.warp(now_ + 3 days);
        enactParameter(Names.DIRECT_SETTLEMENT, 0);
        (value, until) = council.parameterUntil(Names.DIRECT_SETTLEMENT);
        same(value, 0);
        same(until, now_ + 14 days);
        vm.warp(now_ + 14 days);
        (value, until) = council.parameterUntil(Names.DIRECT_SETTLEMENT);
        same(value, 1);
        same(until, now_ + 17 days);
        vm.warp(now_ + 17 days);
        (value, until) = council.parameterUntil(Names.DIRECT_SETTLEMENT);
        same(value, 0);
        same(until, now_ + 31 days);
        uint16 share;
        enactShare("code", 100);
        (share, until) = council.minShareUntil("code");
        same(share, 100);
        same(until, now_ + 31 days);
        enactShare("code", 200);
        vm.warp(now_ + 20 days);
        (share, until) = council.minShareUntil("code");
        same(share, 100);
        same(until, now_ + 31 days);
        vm.warp(now_ + 31 days);
        (share, until) = council.minShareUntil("code");
        same(share, 200);
        same(until, now_ + 45 days);
    }

    function test_the_domain_and_the_founding_are_what_the_ledger_says() external view {
        bytes32 kind = keccak256(
            "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)"
        );
        bytes32 domain = keccak256(
            abi.encode(kind, keccak256("Qazyna"), keccak256("1"), block.chainid, address(council), LEDGER)
        );
        same(council.domainSeparator(), domain);
        same(council.ledger(), LEDGER);
        same(council.retentionEnd(), RETENTION_END);
        bytes memory hashes;
        Records.Seat[] memory seats = foundingSeats();
        for (uint256 i = 0; i < seats.length; ++i) {
            hashes = bytes.concat(hashes, keccak256(abi.encode(Records.SEAT, seats[i])));
        }
        hashes = bytes.concat(hashes, keccak256(abi.encode(Records.QUORUM, foundingQuorums()[0])));
        same(council.founding(), keccak256(hashes));
    }

    function test_a_revenue_rule_is_known_by_its_hash_once_enacted() external {
        (bytes memory record, uint64 index) = _share("code", 1);
        same(council.codeOf(keccak256(record)), 0);
        bring(record, index);
        same(council.codeOf(keccak256(record)), "code");
    }

    function test_terms_and_quorums_are_given_again_and_a_quorum_may_be_all_of_them() external {
        _enactSeat(Names.AUDITOR, 31, START, START + 20 days);
        _enactSeat(Names.AUDITOR, 31, START, START + 30 days);
        enact(abi.encode(Records.QUORUM, Records.Quorum(START, Names.COUNCIL, 4, ACT)));
        enact(abi.encode(Records.QUORUM, Records.Quorum(START, Names.COUNCIL, 5, ACT)));
        // What the council has seats for is no bound of another role.
        enact(abi.encode(Records.QUORUM, Records.Quorum(START, Names.AUTHORITY, 6, ACT)));
        vm.warp(START + 29 days);
        isTrue(council.seated(Names.AUDITOR, vm.addr(31)));
        same(council.required(Names.COUNCIL), 5);
        same(council.required(Names.AUTHORITY), 6);
    }

    function test_a_later_term_does_not_bring_an_old_one_back() external {
        _enactSeat(Names.AUDITOR, 31, START, START + 20 days);
        vm.warp(START + 15 days);
        _enactSeat(Names.AUDITOR, 31, START + 40 days, FOREVER);
        vm.warp(START + 20 days - 1);
        isTrue(council.seated(Names.AUDITOR, vm.addr(31)));
        vm.warp(START + 20 days);
        isTrue(!council.seated(Names.AUDITOR, vm.addr(31)));
        vm.warp(START + 40 days - 1);
        isTrue(!council.seated(Names.AUDITOR, vm.addr(31)));
        vm.warp(START + 40 days);
        isTrue(council.seated(Names.AUDITOR, vm.addr(31)));
    }

    function test_leak_14_who_was_called_and_never_sat_fills_no_seats() external {
        // Their terms were over before, and in, the second in which their notice ended.
        _enactSeat(Names.COUNCIL, 41, START, START + 1 days);
        _enactSeat(Names.COUNCIL, 42, START, START + 14 days);
        _enactSeat(Names.COUNCIL, 43, START, FOREVER);
        for (uint256 key = 1; key <= 5; ++key) {
            _end(key, START + 14 days);
        }
        vm.warp(START + 14 days);
        isTrue(council.isRecovering());
        bytes memory record = abi.encode(Records.SEAT, seat(Names.COUNCIL, 51));
        uint64 index = add(record);
        publish();
        for (uint256 key = 41; key <= 42; ++key) {
            Signature[] memory never = approve(keys3(1, 2, key), Records.APPROVE_SEAT, record, FOREVER);
            _refused(
                record,
                index,
                never,
                abi.encodeWithSelector(ICouncil.NotSeated.selector, Names.COUNCIL, vm.addr(key))
            );
        }
        // Who has begun to sit in this second has sat, and a term may be confirmed as it is.
        bring(record, index, approve(keys3(1, 2, 43), Records.APPROVE_SEAT, record, FOREVER));
        Records.Seat memory again = seat(Names.COUNCIL, 43);
        again.time = START + 1;
        record = abi.encode(Records.SEAT, again);
        index = add(record);
        publish();
        bring(record, index, approve(keys3(1, 2, 43), Records.APPROVE_SEAT, record, FOREVER));
    }

    function test_whatever_is_named_has_a_name() external {
        bytes32 bad = "two words";
        bytes memory refusal = abi.encodeWithSelector(ICouncil.NotAName.selector, bad);
        address place = address(router);
        enactRefused(
            abi.encode(Records.CONTRACT, Records.Contract(START, bad, block.chainid, place, place.codehash, ACT)),
            refusal
        );
        enactRefused(
            abi.encode(Records.ASSET, Records.Asset(START, bad, 6, block.chainid, place, START, FOREVER, ACT)),
            refusal
        );
        _accountRefused(account(bad, "TKZT", Names.PAYEE, vm.addr(77)), refusal);
        enactRefused(
            abi.encode(Records.PROJECT, Records.Project(START, bad, "water", "alatau-gate", 9, ACT)), refusal
        );
        enactRefused(
            abi.encode(Records.PROJECT, Records.Project(START, "p", bad, "alatau-gate", 0, ACT)), refusal
        );
        enactRefused(
            abi.encode(Records.ALLOCATION, Records.Allocation(START, bad, "b", ACT, "TKZT", 1, ACT, ACT)), refusal
        );
        enactRefused(
            abi.encode(Records.ALLOCATION, Records.Allocation(START, "a", bad, ACT, "TKZT", 1, ACT, ACT)), refusal
        );
        enactRefused(
            abi.encode(Records.REVENUE_RULE, Records.RevenueRule(START, "code", "OTHER", 1, START, ACT)),
            abi.encodeWithSelector(ICouncil.UnknownFund.selector, bytes32("OTHER"))
        );
        _shapeRefused(abi.encode(ACT), abi.encodeWithSelector(ICouncil.UnknownKind.selector, ACT));
    }

    function test_the_republic_may_have_several_accounts() external {
        enactAccount("republic", "TKZT", Names.REPUBLIC, republic);
        enactAccount("republic-2", "TKZT", Names.REPUBLIC, republic);
        isTrue(council.isRepublic(republic));
        same(council.account("republic-2").owner, bytes32(uint256(uint160(republic))));
    }

    function test_what_is_enacted_and_taken_back_is_told() external {
        (bytes memory record, uint64 index) = _share("code", 1);
        bytes32 hash = keccak256(record);
        Signature[] memory approvals = councillors(record);
        ILedgerAnchor.Head memory head = anchor.head();
        bytes32[] memory proof = path(index);
        vm.expectEmit(address(council));
        emit ICouncil.Withdrawn(hash, vm.addr(5));
        vm.prank(vm.addr(5));
        council.withdraw(hash);
        vm.expectEmit(address(council));
        emit ICouncil.Enacted(Records.REVENUE_RULE, hash, "code", index);
        council.enact(record, index, head.size, head.time, proof, approvals);
    }

    function test_the_founding_quorums_are_in_force_from_the_founding_on() external {
        Records.Quorum[] memory quorums = new Records.Quorum[](2);
        quorums[0] = Records.Quorum(START, Names.COUNCIL, 4, ACT);
        quorums[1] = Records.Quorum(START, Names.AUTHORITY, 2, ACT);
        Council other = new Council(LEDGER, RETENTION_END, foundingSeats(), quorums);
        same(other.required(Names.COUNCIL), 4);
        same(other.required(Names.AUTHORITY), 2);
        same(other.required(Names.AUDITOR), 1);
        isTrue(other.isContract(address(other.anchor())) && other.isContract(address(other)));
        same(address(LedgerAnchor(address(other.anchor())).council()), address(other));
    }

    function test_leak_14_a_recovery_changes_no_quorum() external {
        _endTerms(START + 100 days);
        bytes memory record = abi.encode(Records.QUORUM, Records.Quorum(START, Names.COUNCIL, 3, ACT));
        enactRefused(
            record,
            abi.encodeWithSelector(ICouncil.NotSeated.selector, Names.COUNCIL, councillors(record)[0].signer)
        );
    }

    function test_what_is_known_to_come_soonest_counts_in_whatever_order_it_was_enacted() external {
        uint64 now_ = uint64(block.timestamp);
        Records.Parameter memory parameter =
            Records.Parameter(START, Names.ORDER_DELAY, 3 days, now_ + 20 days, ACT);
        enact(abi.encode(Records.PARAMETER, parameter));
        (parameter.value, parameter.validFrom) = (2 days, now_);
        enact(abi.encode(Records.PARAMETER, parameter));
        enactShare("code", 100);
        Records.RevenueRule memory rule =
            Records.RevenueRule(START, "code", Names.RETAINED, 300, now_ + 20 days, ACT);
        enact(abi.encode(Records.REVENUE_RULE, rule));
        (rule.minShare, rule.validFrom) = (200, now_);
        enact(abi.encode(Records.REVENUE_RULE, rule));
        vm.warp(now_ + 10 days);
        (, uint64 until) = council.parameterUntil(Names.ORDER_DELAY);
        same(until, now_ + 14 days);
        (, until) = council.minShareUntil("code");
        same(until, now_ + 14 days);
    }

    // --- in short ---

    function _end(uint256 key, uint64 to) private {
        Records.Seat memory short = seat(Names.COUNCIL, key);
        short.validTo = to;
        enact(abi.encode(Records.SEAT, short));
    }

    function _endTerms(uint64 to) private {
        for (uint256 key = 1; key <= 5; ++key) {
            _end(key, to);
        }
        vm.warp(to);
    }

    function enactWith(bytes calldata record, uint64 index, Signature[] calldata approvals) external {
        bring(record, index, approvals);
    }

    function _share(bytes32 code, uint16 share) private returns (bytes memory record, uint64 index) {
        record = abi.encode(Records.REVENUE_RULE, Records.RevenueRule(START, code, Names.RETAINED, share, START, ACT));
        index = add(record);
        publish();
    }

    function _seatFor(bytes32 role, uint256 key) private pure returns (Records.Seat memory) {
        return seat(role, key);
    }

    function _enactSeat(bytes32 role, uint256 key, uint64 from, uint64 to) private {
        enact(abi.encode(Records.SEAT, Records.Seat(START, role, vm.addr(key), from, to, ACT)));
    }

    function _seatRefused(Records.Seat memory record, bytes memory refusal) private {
        enactRefused(abi.encode(Records.SEAT, record), refusal);
    }

    function _accountRefused(Records.Account memory record, bytes memory refusal) private {
        enactRefused(abi.encode(Records.ACCOUNT, record), refusal);
    }

    function _parameterRefused(bytes32 name, uint128 value, bytes memory refusal) private {
        enactRefused(abi.encode(Records.PARAMETER, Records.Parameter(START, name, value, START, ACT)), refusal);
    }

    function _shapeRefused(bytes memory record, bytes memory refusal) private {
        vm.expectRevert(refusal);
        council.enact(record, 0, 1, START, new bytes32[](0), new Signature[](0));
    }

    function _refused(bytes memory record, uint64 index, Signature[] memory approvals, bytes memory refusal) private {
        uint64 size = anchor.head().size;
        uint64 time = anchor.head().time;
        bytes32[] memory proof = path(index);
        vm.expectRevert(refusal);
        council.enact(record, index, size, time, proof, approvals);
    }

    function _refusedAnyhow(bytes memory record, uint64 index, Signature[] memory approvals) private {
        // WrongSigner names whom the signature recovers to, which is nobody in particular.
        try this.enactWith(record, index, approvals) {
            isTrue(false);
        } catch (bytes memory refusal) {
            same(bytes32(bytes4(refusal)), bytes32(ICouncil.WrongSigner.selector));
        }
    }
}
